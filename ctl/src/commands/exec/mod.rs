//! `exec`: runs a command in a container and ends as it ends.

mod terminal;

use anyhow::Context as _;
use futures::SinkExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::pods;
use crate::{cli::Context, cluster::Error, completion, failure::Failure, output::Output};
use drover_api::object;
use terminal::RawMode;

/// Run a command in a container.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl exec web-1 -- cat /etc/hosts\n  droverctl exec -it deploy/web -- sh\n\n\
    Exits with the exit code of the command."
)]
pub(crate) struct Args {
    /// A pod, or deploy/NAME for one of its pods
    #[arg(value_name = "POD", add = completion::pods_and_workloads())]
    object: String,
    /// The container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Bytes that are read at once from either side.
const CHUNK: usize = 16 * 1024;

/// Runs `exec`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let found = pods::find(&cluster, &args.object).await?;
    let running = |pod: &&serde_json::Value| object::str_at(pod, &["status", "phase"]) == "Running";
    let pod = found.found.iter().find(running).or_else(|| found.found.first());
    let pod = pod.ok_or_else(|| Failure::new(format!("{} has no pods", found.label)))?;
    let container = args.container.clone().unwrap_or_else(|| pods::default_container(pod));
    // A terminal is only of use when a person sits at ours.
    let tty = args.tty && std::io::IsTerminal::is_terminal(&std::io::stdin());
    if args.tty && !tty {
        ctx.output.note("warning: standard input is no terminal: none is given to the command");
    }
    let params = AttachParams::default().container(container).stdin(args.stdin).stdout(true).stderr(!tty).tty(tty);
    let api: Api<Pod> = Api::namespaced(cluster.client(), object::namespace(pod));
    let process = api.exec(object::name(pod), &args.command, &params).await;
    let process = process.map_err(|error| Error::from_kube(&cluster.server, error))?;
    let _raw = tty.then(RawMode::enter).transpose().context("cannot set up the terminal")?;
    attend(process, ctx.output, args.stdin, tty).await
}

/// Passes everything on in both directions until the command has ended.
async fn attend(mut process: AttachedProcess, output: Output, stdin: bool, tty: bool) -> anyhow::Result<u8> {
    let status = process.take_status().ok_or_else(|| Failure::new("the server sends no exit status"))?;
    let input = process.stdin().filter(|_| stdin).map(|mut to| {
        tokio::spawn(async move {
            // The command may end before its input does: nobody needs the rest then.
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to).await;
            let _ = to.shutdown().await;
        })
    });
    let resize = process.terminal_size().filter(|_| tty).map(|sizes| tokio::spawn(follow_size(sizes)));
    let (out, err) = (process.stdout(), process.stderr());
    let copied = tokio::try_join!(copy(out, |bytes| output.bytes(bytes)), copy(err, |bytes| output.error_bytes(bytes)));
    copied.context("the connection was lost")?;
    for task in input.into_iter().chain(resize) {
        task.abort();
    }
    let status = status.await;
    match status {
        Some(status) => exit_code(&status),
        None => Err(Failure::new("the connection was lost before the command ended").into()),
    }
}

async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        to(&chunk[..count])?;
    }
}

/// Tells the other side how large our terminal is, now and whenever that changes.
async fn follow_size(mut sizes: futures::channel::mpsc::Sender<TerminalSize>) {
    let Ok(mut changes) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()) else { return };
    loop {
        if let Some((width, height)) = terminal::size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// Reads the exit code out of the status that ends a session.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> anyhow::Result<u8> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message.as_deref()?.parse::<i64>().ok());
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(code) => Ok(code),
        None => {
            let message = status.message.clone().unwrap_or_else(|| "the command could not be run".to_owned());
            Err(Failure::new(message).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(status: serde_json::Value) -> Result<u8, String> {
        exit_code(&serde_json::from_value(status).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_exit_code_of_the_command_is_passed_on() {
        assert_eq!(code(json!({"status": "Success"})), Ok(0));
        let failure = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "exit 3",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(code(failure), Ok(3));
        assert_eq!(code(json!({"status": "Failure", "message": "no such file"})), Err("no such file".to_owned()));
    }

    #[tokio::test]
    async fn bytes_are_passed_on_unchanged() {
        let mut copied = Vec::new();
        let from: &[u8] = b"a\xff\x1b[0m";
        copy(Some(from), |bytes| {
            copied.extend_from_slice(bytes);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(copied, b"a\xff\x1b[0m");
    }
}
