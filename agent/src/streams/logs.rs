//! Logs: which container, which lines, how many bytes.
//!
//! [`select`] and [`Lines`] are pure; [`stream`] moves what the engine gives to the client at the client's pace.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::Response;
use jiff::Timestamp;

use super::{
    reply::{Body, Failure, stream_response},
    routes::{LogQuery, Target},
};
use crate::{
    engine::{Engine, EngineError, ErrorKind, LogOptions, OutputChunk},
    ids::ContainerId,
    seams::{PodDirectory, PodRecord},
};

/// Finds the pod that a request names.
pub(super) fn find_pod(directory: &PodDirectory, pod: &super::routes::PodName) -> Result<PodRecord, Failure> {
    let record = directory.get(&pod.namespace, &pod.name);
    let record = record.filter(|record| pod.uid.as_deref().is_none_or(|uid| uid == record.uid.as_str()));
    record.ok_or_else(|| Failure::not_found(format!("pods {:?} not found", pod.name)))
}

/// Finds the attempt whose log is wanted; the sentences are kubelet's.
pub(super) fn select(record: &PodRecord, target: &Target, previous: bool) -> Result<ContainerId, Failure> {
    let (pod, container) = (&record.name, &target.container);
    let known = record.containers.get(container);
    let known =
        known.ok_or_else(|| Failure::bad_request(format!("container {container:?} is not valid for pod {pod:?}")))?;
    if previous {
        // A container between two attempts has its last one as the current.
        let ended = known.previous.clone().or_else(|| known.current.clone().filter(|_| !known.running));
        return ended.ok_or_else(|| {
            Failure::bad_request(format!("previous terminated container {container:?} in pod {pod:?} not found"))
        });
    }
    known.current.clone().or_else(|| known.previous.clone()).ok_or_else(|| {
        let message = format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating");
        Failure::bad_request(message)
    })
}

/// Answers a request for logs.
pub(super) async fn stream(
    engine: &Arc<dyn Engine>,
    directory: &PodDirectory,
    target: &Target,
    query: &LogQuery,
) -> Result<Response<Body>, Failure> {
    let id = select(&find_pod(directory, &target.pod)?, target, query.previous)?;
    let mut lines = Lines::new(query);
    let options = LogOptions {
        follow: query.follow,
        since: query.since,
        tail_lines: query.tail_lines,
        timestamps: lines.wants_timestamps(),
    };
    let mut output = engine.logs(&id, &options);
    let (pieces, response) = stream_response("text/plain");
    // The first piece decides between an answer and an error. Following waits for it beside the open answer.
    let first = if query.follow { None } else { output.next().await };
    if let Some(Err(error)) = &first {
        return Err(failure(target, error));
    }
    let mut output = futures::stream::iter(first).chain(output);
    tokio::spawn(async move {
        loop {
            // Cancel-safe: a piece lost at the end of the client is a piece nobody waits for.
            let chunk = tokio::select! {
                () = pieces.closed() => return,
                chunk = output.next() => chunk,
            };
            let text = match chunk {
                None => return,
                Some(Ok(chunk)) => lines.push(chunk),
                Some(Err(error)) => Some(Bytes::from(format!("error reading the log: {}\n", error.message))),
            };
            if let Some(text) = text
                && pieces.send(text).await.is_err()
            {
                return;
            }
            if lines.is_full() {
                return;
            }
        }
    });
    Ok(response)
}

fn failure(target: &Target, error: &EngineError) -> Failure {
    match error.kind {
        ErrorKind::NotFound => {
            let (container, pod) = (&target.container, &target.pod.name);
            Failure::not_found(format!("the log of container {container:?} in pod {pod:?} is gone with the container"))
        }
        ErrorKind::Conflict
        | ErrorKind::NoSuchImage
        | ErrorKind::NotRunning
        | ErrorKind::PullDenied
        | ErrorKind::Invalid
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Failed => Failure::internal(error.message.clone()),
    }
}

/// Cuts the engine's output to what was asked for.
///
/// The engine keeps `since` in whole seconds, so times finer than that are compared here; it splits lines longer than
/// 16 KiB and dates each part, of which only the first date stays.
#[derive(Debug)]
pub(super) struct Lines {
    since: Option<Timestamp>,
    timestamps: bool,
    bytes_left: Option<u64>,
    stdout: Line,
    stderr: Line,
}

/// Where one of the two streams is.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// The last part did not end its line.
    open: bool,
    /// The line is before the wanted time.
    skipped: bool,
}

impl Lines {
    pub(super) fn new(query: &LogQuery) -> Self {
        Self {
            since: query.since,
            timestamps: query.timestamps,
            bytes_left: query.limit_bytes,
            stdout: Line::default(),
            stderr: Line::default(),
        }
    }

    /// Whether the engine must date the lines for our sake.
    pub(super) fn wants_timestamps(&self) -> bool {
        self.timestamps || self.since.is_some_and(|since| since.subsec_nanosecond() != 0)
    }

    /// Whether the byte limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.bytes_left == Some(0)
    }

    /// Returns what of a chunk the client gets.
    pub(super) fn push(&mut self, chunk: OutputChunk) -> Option<Bytes> {
        let dated = self.wants_timestamps();
        let line = match &chunk {
            OutputChunk::Stdout(_) => &mut self.stdout,
            OutputChunk::Stderr(_) => &mut self.stderr,
        };
        let mut bytes = chunk.into_bytes();
        let goes_on = std::mem::replace(&mut line.open, !bytes.ends_with(b"\n"));
        if dated {
            let (stamp, text) = split_stamp(&bytes);
            if !goes_on {
                line.skipped = matches!((stamp, self.since), (Some(at), Some(since)) if at < since);
            }
            if line.skipped {
                return None;
            }
            if goes_on || !self.timestamps {
                bytes = bytes.slice_ref(text);
            }
        }
        if let Some(left) = &mut self.bytes_left {
            let keep = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            bytes.truncate(keep);
            *left -= u64::try_from(keep).unwrap_or(*left);
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// Splits `2026-01-02T03:04:05.000000006Z text`; without a stamp all is text.
fn split_stamp(bytes: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = bytes.iter().take(40).position(|byte| *byte == b' ') else { return (None, bytes) };
    let (stamp, text) = bytes.split_at(space);
    let stamp = std::str::from_utf8(stamp).ok().and_then(|stamp| stamp.parse().ok());
    match stamp {
        Some(stamp) => (Some(stamp), text.get(1..).unwrap_or_default()),
        None => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> OutputChunk {
        OutputChunk::Stdout(Bytes::from(text.to_owned()))
    }

    fn err(text: &str) -> OutputChunk {
        OutputChunk::Stderr(Bytes::from(text.to_owned()))
    }

    fn cut(query: &LogQuery, chunks: Vec<OutputChunk>) -> String {
        let mut lines = Lines::new(query);
        let mut text = Vec::new();
        for chunk in chunks {
            text.extend(lines.push(chunk).unwrap_or_default());
            if lines.is_full() {
                break;
            }
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn both_streams_stay_in_the_engines_order() {
        let text = cut(&LogQuery::default(), vec![out("a\n"), err("b\n"), out("c\n")]);
        assert_eq!(text, "a\nb\nc\n");
    }

    #[test]
    fn the_byte_limit_cuts_in_the_middle_of_a_line() {
        let query = LogQuery { limit_bytes: Some(5), ..Default::default() };
        assert_eq!(cut(&query, vec![out("abc\n"), err("def\n"), out("ghi\n")]), "abc\nd");
    }

    #[test]
    fn a_time_finer_than_a_second_is_kept_though_the_engine_rounds_it() {
        let since = Some("2026-01-02T03:04:05.5Z".parse().unwrap());
        let chunks = || {
            vec![
                out("2026-01-02T03:04:05.400000000Z early part "),
                err("2026-01-02T03:04:05.600000000Z late\n"),
                out("2026-01-02T03:04:05.400000000Z and its rest\n"),
                out("2026-01-02T03:04:05.500000000Z on time\n"),
            ]
        };
        let query = LogQuery { since, ..Default::default() };
        assert_eq!(cut(&query, chunks()), "late\non time\n");
        let query = LogQuery { since, timestamps: true, ..Default::default() };
        let dated = "2026-01-02T03:04:05.600000000Z late\n2026-01-02T03:04:05.500000000Z on time\n";
        assert_eq!(cut(&query, chunks()), dated);
    }

    #[test]
    fn a_line_in_parts_is_dated_once() {
        let query = LogQuery { timestamps: true, ..Default::default() };
        let chunks = vec![out("2026-01-02T03:04:05.000000001Z one "), out("2026-01-02T03:04:05.000000002Z line\n")];
        assert_eq!(cut(&query, chunks), "2026-01-02T03:04:05.000000001Z one line\n");
    }
}
