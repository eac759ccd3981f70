//! Carries out what the planner asks for. No decisions: each function does one step and says how it went.

mod cleanup;
mod files;
mod hooks;
mod pull;
mod secrets;
mod start;

pub(super) use cleanup::clean_up;
pub use files::HostFiles;
pub(super) use hooks::run_hook;
pub(super) use pull::{PullFailure, pull};
pub(super) use start::{StartFailure, StartRequest, Started, start};

use jiff::Timestamp;

use super::{context::Context, observed::End};
use crate::engine::ContainerDetails;

/// What a container may say at most at its end (Kubernetes: 4,096 bytes).
const TERMINATION_MESSAGE_MAX: usize = 4096;
/// What is taken from the log for `FallbackToLogsOnError` (Kubernetes: 80 lines, 2,048 bytes).
const TERMINATION_LOG_LINES: u64 = 80;
const TERMINATION_LOG_MAX: usize = 2048;

/// Describes how an attempt ended, with its termination message.
pub(super) async fn describe_end(
    context: &Context,
    details: &ContainerDetails,
    message_file: &std::path::Path,
    fall_back_to_logs: bool,
    now: Timestamp,
) -> End {
    let exit_code = i32::try_from(details.exit_code).unwrap_or(i32::MAX);
    let reason = match (details.oom_killed, exit_code, details.error.is_empty()) {
        (true, ..) => "OOMKilled",
        (false, 0, _) => "Completed",
        (false, _, false) => "ContainerCannotRun",
        (false, _, true) => "Error",
    };
    let words = context.files.last_words(message_file).await;
    let mut message = words.map(|bytes| last_bytes(&bytes, TERMINATION_MESSAGE_MAX));
    message = message.filter(|text| !text.is_empty());
    if message.is_none() && fall_back_to_logs && exit_code != 0 {
        message = last_log(context, details).await;
    }
    if message.is_none() && !details.error.is_empty() {
        message = Some(details.error.clone());
    }
    End {
        id: Some(details.summary.id.clone()),
        exit_code,
        reason: reason.to_owned(),
        message,
        started_at: details.started_at,
        finished_at: details.finished_at.unwrap_or(now),
    }
}

fn last_bytes(bytes: &[u8], max: usize) -> String {
    let start = bytes.len().saturating_sub(max);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

async fn last_log(context: &Context, details: &ContainerDetails) -> Option<String> {
    use futures::TryStreamExt as _;

    let options = crate::engine::LogOptions { tail_lines: Some(TERMINATION_LOG_LINES), ..Default::default() };
    let chunks: Vec<_> = context.engine.logs(&details.summary.id, &options).try_collect().await.ok()?;
    let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.into_bytes().to_vec()).collect();
    Some(last_bytes(&bytes, TERMINATION_LOG_MAX)).filter(|text| !text.is_empty())
}
