//! `pods/portforward` over WebSocket: for the i-th port, channel 2i carries data and 2i+1 errors.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use drover_api::status::ApiError;
use futures::{SinkExt, StreamExt};
use http::Method;
use http_body_util::BodyExt;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Streams, agent,
    frames::CLOSE,
    socket::{self, Upgrade},
    target::Target,
};
use crate::{
    front::{Body, Grant, Request, Response},
    request::RequestInfo,
    tunnel::Tunnels,
};

/// Messages queued each way; beyond them the sender waits.
const QUEUE: usize = 16;
/// Channel numbers are bytes, two a port, and 255 is taken.
const PORTS_MAX: usize = 127;

type Bytestream = mpsc::Sender<Result<Bytes, std::convert::Infallible>>;

impl Streams {
    pub(super) async fn port_forward(
        &self,
        info: &RequestInfo,
        request: Request,
        grant: Arc<Grant>,
    ) -> Result<Response, ApiError> {
        let ports = ports(info)?;
        let pod = self.objects.find(crate::objects::PODS, &info.namespace, &info.name);
        let pod = pod.ok_or_else(|| super::target::no_such_pod(&info.name))?;
        let first = drover_api::object::str_at(&pod["spec"]["containers"][0], &["name"]).to_owned();
        let target = Target::of(&pod, Some(&first))?.require_node()?;
        let upgrade = Upgrade::of(request).await?;
        let tunnels = Arc::clone(&self.tunnels);
        Ok(upgrade.run(self, grant, move |socket| bridge(socket, tunnels, target, ports)))
    }
}

fn ports(info: &RequestInfo) -> Result<Vec<u16>, ApiError> {
    let texts = info.query_all("ports").flat_map(|list| list.split(','));
    let ports: Option<Vec<u16>> = texts.map(|text| text.parse().ok().filter(|port| *port > 0)).collect();
    match ports {
        Some(ports) if (1..=PORTS_MAX).contains(&ports.len()) => Ok(ports),
        _ => Err(ApiError::bad_request("query parameter \"ports\" must list 1 to 127 port numbers")),
    }
}

/// Opens every port and carries bytes until the client is gone.
async fn bridge(socket: WebSocket, tunnels: Arc<Tunnels>, target: Target, ports: Vec<u16>) {
    let (mut sink, mut source) = socket.split();
    let (output, mut queue) = mpsc::channel(QUEUE);
    let (mut inputs, mut tasks) = (Vec::new(), JoinSet::new());
    for (index, port) in (0_u8..).zip(ports) {
        let (input, body) = mpsc::channel(QUEUE);
        inputs.push(Some(input));
        let forward = Forward { tunnels: Arc::clone(&tunnels), target: target.clone(), port, channel: index * 2 };
        tasks.spawn(forward.run(Body::from_stream(ReceiverStream::new(body)), output.clone()));
    }
    drop(output);
    let write = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        socket::end(sink).await;
    };
    let read = async {
        while let Some(Ok(message)) = source.next().await {
            if let Message::Binary(bytes) = message {
                deliver(&mut inputs, &bytes).await;
            }
        }
    };
    tokio::select! {
        () = write => {} // every port has ended, or the client is gone
        () = read => {} // the client is gone
    }
}

/// Hands a message to its port. A message for a port that has ended is dropped, as its sender could not know.
async fn deliver(inputs: &mut [Option<Bytestream>], message: &[u8]) {
    match message {
        [CLOSE, channel, ..] => {
            if let Some(input) = inputs.get_mut(usize::from(channel / 2)) {
                *input = None;
            }
        }
        [channel, payload @ ..] if channel % 2 == 0 && !payload.is_empty() => {
            if let Some(Some(input)) = inputs.get(usize::from(channel / 2)) {
                drop(input.send(Ok(Bytes::copy_from_slice(payload))).await);
            }
        }
        _ => {}
    }
}

/// One port.
struct Forward {
    tunnels: Arc<Tunnels>,
    target: Target,
    port: u16,
    channel: u8,
}

impl Forward {
    async fn run(self, input: Body, output: mpsc::Sender<Message>) {
        let errors = self.channel + 1;
        // Each channel starts with its port number, little-endian.
        for channel in [self.channel, errors] {
            if output.send(message(channel, &self.port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        if let Err(error) = self.carry(input, &output).await {
            // When nobody listens any more there is nobody to tell.
            drop(output.send(message(errors, error.message.as_bytes())).await);
        }
    }

    async fn carry(&self, input: Body, output: &mpsc::Sender<Message>) -> Result<(), ApiError> {
        let Target { namespace, pod, uid, node, container: _ } = &self.target;
        let port = self.port.to_string();
        let path = format!("portforward/{namespace}/{pod}");
        let request = agent::request(Method::POST, &path, &[("uid", uid), ("port", &port)], input);
        let mut answer = agent::ask(&self.tunnels, node, request).await?;
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|_| ApiError::internal("the connection to the port broke"))?;
            let bytes = frame.into_data().unwrap_or_default();
            if !bytes.is_empty() && output.send(message(self.channel, &bytes)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn message(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(payload.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(payload);
    Message::Binary(bytes.freeze())
}
