//! `pods/exec` and `pods/attach`: WebSocket messages on one side, frames on the other.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use drover_api::status::ApiError;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use tokio::{sync::mpsc, time::interval};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Streams, agent,
    frames::{self, CLOSE, Decoder, ERROR, RESIZE, STDERR, STDIN, STDOUT},
    socket::{self, Upgrade},
};
use crate::{
    front::{Body, Grant, Request, Response},
    request::RequestInfo,
};

/// Messages on their way to the agent; beyond them the client waits.
const QUEUE: usize = 16;
/// Keeps middle boxes from closing a quiet terminal, and finds clients that are gone.
const PING_EVERY: Duration = Duration::from_secs(30);

type Input = mpsc::Sender<Result<Bytes, std::convert::Infallible>>;

impl Streams {
    pub(super) async fn exec(
        &self,
        info: &RequestInfo,
        request: Request,
        grant: Arc<Grant>,
    ) -> Result<Response, ApiError> {
        let (_, target) = self.target(info)?;
        let target = target.require_node()?;
        let options = Options::read(info)?;
        let upgrade = Upgrade::of(request).await?;
        let mut query = vec![("uid", target.uid.as_str())];
        query.extend(info.query_all("command").filter(|_| options.is_exec).map(|part| ("command", part)));
        query.extend(options.flags().map(|(key, value)| (key, if value { "true" } else { "false" })));
        let path = format!("{}/{}", info.subresource, agent::container_path(&target));
        let (input, queue) = mpsc::channel(QUEUE);
        let body = Body::from_stream(ReceiverStream::new(queue));
        let answer = agent::ask(&self.tunnels, &target.node, agent::request(Method::POST, &path, &query, body)).await?;
        let first = options.lowest_output();
        Ok(upgrade.run(self, grant, move |socket| bridge(socket, input, answer, first)))
    }
}

/// What to connect.
struct Options {
    is_exec: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Options {
    fn read(info: &RequestInfo) -> Result<Self, ApiError> {
        let is_exec = info.subresource == "exec";
        if is_exec && info.query_all("command").next().is_none() {
            return Err(ApiError::new(422, "Invalid", "PodExecOptions \"\" is invalid: command: Required value"));
        }
        let tty = info.flag("tty")?;
        // A terminal has one output.
        let stderr = info.flag("stderr")? && !tty;
        let options = Self { is_exec, stdin: info.flag("stdin")?, stdout: info.flag("stdout")?, stderr, tty };
        if !(options.stdin || options.stdout || options.stderr) {
            return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(options)
    }

    fn flags(&self) -> impl Iterator<Item = (&'static str, bool)> {
        [("stdin", self.stdin), ("stdout", self.stdout), ("stderr", self.stderr), ("tty", self.tty)].into_iter()
    }

    fn lowest_output(&self) -> u8 {
        if self.stdout {
            STDOUT
        } else if self.stderr {
            STDERR
        } else {
            ERROR
        }
    }
}

/// Carries messages both ways until the agent's stream ends or the client is gone.
async fn bridge(socket: WebSocket, input: Input, answer: Incoming, first: u8) {
    let (mut sink, source) = socket.split();
    // An empty message tells clients that the stream is open, as Kubernetes' server does.
    if sink.send(message(first, &[])).await.is_err() {
        return;
    }
    tokio::select! {
        () = to_agent(source, input) => {} // the client is gone; dropping the other arm ends the agent's request
        () = to_client(sink, answer) => {} // the process is over; nobody reads input any more
    }
}

/// Passes the client's messages on. Returns when the client is gone.
async fn to_agent(mut source: SplitStream<WebSocket>, input: Input) {
    while let Some(Ok(message)) = source.next().await {
        let frame = match message {
            Message::Binary(bytes) => from_client(&bytes),
            Message::Text(text) => from_client(text.as_bytes()),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => None,
        };
        if let Some(frame) = frame
            && input.send(Ok(frame)).await.is_err()
        {
            // The agent reads no more input; its answer is still to come.
            std::future::pending::<()>().await;
        }
    }
}

/// Reads a message of a channel that clients may write to; others are ignored.
fn from_client(message: &[u8]) -> Option<Bytes> {
    let (channel, payload) = message.split_first()?;
    let wanted = matches!(*channel, STDIN | RESIZE | CLOSE) && !(*channel == STDIN && payload.is_empty());
    wanted.then(|| frames::encode(*channel, payload))
}

/// Passes the agent's frames on and closes the socket after the last one.
async fn to_client(mut sink: SplitSink<WebSocket, Message>, mut answer: Incoming) {
    let (mut decoder, mut pings, mut concluded) = (Decoder::default(), interval(PING_EVERY), false);
    loop {
        let bytes = tokio::select! {
            frame = answer.frame() => match frame { // cancel-safe: a frame is taken whole or not at all
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) | None => break,
            },
            _ = pings.tick() => { // cancel-safe: a timer
                if sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        decoder.push(&bytes);
        while let Ok(Some((channel, payload))) = decoder.next() {
            concluded |= channel == ERROR;
            if matches!(channel, STDOUT | STDERR | ERROR | CLOSE)
                && sink.send(message(channel, &payload)).await.is_err()
            {
                return;
            }
        }
    }
    if !concluded {
        let status = ApiError::internal("the stream from the node ended early").to_status();
        if sink.send(message(ERROR, json!(status).to_string().as_bytes())).await.is_err() {
            return;
        }
    }
    socket::end(sink).await;
}

fn message(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(payload);
    Message::Binary(bytes.freeze())
}
