//! Exec and attach: a process's streams in frames, with half-close, terminal sizes and the exit code.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::BoxFuture};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

use super::{
    frames::{self, Decoder, Input},
    logs::find_pod,
    reply::{Body, Failure, exit_status, failed_status, stream_response},
    routes::{Streams, Target},
};
use crate::{
    engine::{AttachOptions, Attached, Engine, EngineError, ErrorKind, ExecConfig, OutputChunk},
    ids::ContainerId,
    seams::{ContainerRecord, PodDirectory},
};

/// The output ends a moment before the engine has noted the exit code.
const EXIT_POLL: Duration = Duration::from_millis(20);
/// After the output's end the exit code comes at once, or the engine has lost it.
const EXIT_WAIT: Duration = Duration::from_secs(10);

/// Sets the terminal's size.
pub(super) type Resize = Box<dyn Fn(u16, u16) -> BoxFuture<'static, Result<(), EngineError>> + Send + Sync>;
/// Says how the process ended.
pub(super) type Exit = BoxFuture<'static, Result<i64, EngineError>>;

/// A process with its streams connected.
pub(super) struct Session {
    pub attached: Attached,
    pub streams: Streams,
    pub resize: Resize,
    pub exit: Exit,
}

/// Answers a request to run a command.
pub(super) async fn exec(
    engine: &Arc<dyn Engine>,
    directory: &PodDirectory,
    target: &Target,
    (command, streams): (Vec<String>, Streams),
    input: Incoming,
) -> Result<Response<Body>, Failure> {
    let (id, _) = running(directory, target)?;
    let streams = Streams { stderr: streams.stderr && !streams.tty, ..streams };
    let config =
        ExecConfig { command, stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr, tty: streams.tty };
    let exec = engine.create_exec(&id, &config).await.map_err(|error| failure(target, &error))?;
    let attached = engine.start_exec(&exec, streams.tty).await.map_err(|error| failure(target, &error))?;
    let (sizing, waiting, name) = (Arc::clone(engine), Arc::clone(engine), exec.clone());
    let resize: Resize = Box::new(move |width, height| {
        let (engine, exec) = (Arc::clone(&sizing), name.clone());
        Box::pin(async move { engine.resize_exec(&exec, width, height).await })
    });
    let exit: Exit = Box::pin(async move { exit_code(waiting.as_ref(), &exec).await });
    Ok(begin(Session { attached, streams, resize, exit }, input))
}

/// Answers a request to connect to a container's own process.
pub(super) async fn attach(
    engine: &Arc<dyn Engine>,
    directory: &PodDirectory,
    target: &Target,
    streams: Streams,
    input: Incoming,
) -> Result<Response<Body>, Failure> {
    let (id, record) = running(directory, target)?;
    let streams = Streams {
        stdin: streams.stdin && record.stdin,
        stderr: streams.stderr && !record.tty,
        stdout: streams.stdout,
        tty: record.tty,
    };
    let options =
        AttachOptions { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr, tty: record.tty };
    let attached = engine.attach(&id, &options).await.map_err(|error| failure(target, &error))?;
    let engine = Arc::clone(engine);
    let resize: Resize = Box::new(move |width, height| {
        let (engine, id) = (Arc::clone(&engine), id.clone());
        Box::pin(async move { engine.resize_container(&id, width, height).await })
    });
    Ok(begin(Session { attached, streams, resize, exit: Box::pin(async { Ok(0) }) }, input))
}

fn running(directory: &PodDirectory, target: &Target) -> Result<(ContainerId, ContainerRecord), Failure> {
    let pod = find_pod(directory, &target.pod)?;
    let container = pod.containers.get(&target.container);
    let container = container.ok_or_else(|| {
        Failure::bad_request(format!("container {} is not valid for pod {}", target.container, pod.name))
    })?;
    match &container.current {
        Some(id) if container.running => Ok((id.clone(), container.clone())),
        Some(_) | None => Err(not_running(target)),
    }
}

fn not_running(target: &Target) -> Failure {
    Failure::bad_request(format!("container {:?} in pod {:?} is not running", target.container, target.pod.name))
}

fn failure(target: &Target, error: &EngineError) -> Failure {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::NotRunning | ErrorKind::Conflict => not_running(target),
        ErrorKind::NoSuchImage
        | ErrorKind::PullDenied
        | ErrorKind::Invalid
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Failed => Failure::internal(error.message.clone()),
    }
}

async fn exit_code(engine: &dyn Engine, exec: &str) -> Result<i64, EngineError> {
    let poll = async {
        loop {
            let state = engine.inspect_exec(exec).await?;
            match state.exit_code {
                Some(code) if !state.running => return Ok(code),
                Some(_) | None => tokio::time::sleep(EXIT_POLL).await,
            }
        }
    };
    tokio::time::timeout(EXIT_WAIT, poll).await.unwrap_or_else(|_| {
        Err(EngineError::new(ErrorKind::Timeout, "exec", "the engine does not say how the command ended"))
    })
}

fn begin(session: Session, input: Incoming) -> Response<Body> {
    let (pieces, response) = stream_response("application/octet-stream");
    tokio::spawn(run(session, until_broken(input.into_data_stream()), pieces));
    response
}

/// Takes an input that breaks off as one that ends, for a broken body fails anew at every poll. The client's going
/// shows at the output.
fn until_broken<E>(input: impl Stream<Item = Result<Bytes, E>>) -> impl Stream<Item = Bytes> {
    let whole = input.take_while(|piece| std::future::ready(piece.is_ok()));
    whole.filter_map(|piece| std::future::ready(piece.ok()))
}

/// Runs a session until the process's output ends or the client is gone. Then the connection to the process is closed,
/// which is the end of its input; a command that goes on without is left alone, as with kubelet.
pub(super) async fn run(
    session: Session,
    input: impl Stream<Item = Bytes> + Send + 'static,
    pieces: mpsc::Sender<Bytes>,
) {
    let Session { attached, streams, resize, exit } = session;
    let Attached { output, input: process_input } = attached;
    let client_gone = pieces.clone();
    let work = async {
        let writing = write_input(input, process_input, streams.stdin, &resize);
        let reading = read_output(output, streams, &pieces);
        tokio::pin!(writing, reading);
        // Cancel-safe: `writing` is dropped only when the process has no more to say.
        let ended = tokio::select! {
            problem = &mut writing => match problem {
                Ok(_keep_open) => reading.await,
                Err(message) => Err(message),
            },
            ended = &mut reading => ended,
        };
        let status = match ended {
            Err(message) => failed_status(&message),
            Ok(()) => match exit.await {
                Ok(code) => exit_status(code),
                Err(error) => failed_status(&error.message),
            },
        };
        // A client that is gone needs no status.
        let _ = pieces.send(frames::encode(frames::ERROR, status.to_string().as_bytes())).await;
    };
    // Cancel-safe: with the client gone, nothing that is lost is missed.
    tokio::select! {
        () = client_gone.closed() => {}
        () = work => {}
    }
}

type ProcessInput = std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>;

/// Passes input on in order. Returns the process's input still open where closing it would say more than was asked.
async fn write_input(
    input: impl Stream<Item = Bytes> + Send,
    mut process: ProcessInput,
    has_stdin: bool,
    resize: &Resize,
) -> Result<Option<ProcessInput>, String> {
    let mut decoder = Decoder::default();
    let mut open = has_stdin;
    tokio::pin!(input);
    while let Some(bytes) = input.next().await {
        decoder.push(&bytes);
        while let Some(input) = decoder.next().map_err(|error| error.to_string())? {
            match input {
                // A process that no longer reads ends by itself, or goes on without: not the client's fault.
                Input::Stdin(bytes) if open => open = process.write_all(&bytes).await.is_ok(),
                Input::Stdin(_) => {}
                Input::StdinClosed => close(&mut process, &mut open).await,
                Input::Resize { width, height } => {
                    if let Err(error) = resize(width, height).await {
                        tracing::debug!(%error, "terminal not resized");
                    }
                }
            }
        }
        if open && process.flush().await.is_err() {
            open = false;
        }
    }
    close(&mut process, &mut open).await;
    Ok(Some(process))
}

async fn close(process: &mut ProcessInput, open: &mut bool) {
    if std::mem::take(open) {
        // A process that is gone has its input closed already.
        let _ = process.shutdown().await;
    }
}

async fn read_output(
    mut output: futures::stream::BoxStream<'static, Result<OutputChunk, EngineError>>,
    streams: Streams,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), String> {
    while let Some(chunk) = output.next().await {
        let (channel, wanted, bytes) = match chunk.map_err(|error| error.message)? {
            OutputChunk::Stdout(bytes) => (frames::STDOUT, streams.stdout, bytes),
            OutputChunk::Stderr(bytes) => (frames::STDERR, streams.stderr, bytes),
        };
        if wanted && !bytes.is_empty() && pieces.send(frames::encode(channel, &bytes)).await.is_err() {
            return Err("the client is gone".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
