//! Taking over a connection as a WebSocket with one of Kubernetes' channel protocols.

use std::sync::Arc;

use axum::extract::{
    FromRequestParts,
    ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
};
use drover_api::status::ApiError;
use futures::{SinkExt, stream::SplitSink};
use http::header;

use super::Streams;
use crate::front::{Grant, Request, Response};

/// Channel protocols, best first. v5 adds the closing of one channel.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// A client's message: kubectl sends at most 32 KiB.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Ends a socket as a success: client-go takes any code but 1000 for a broken stream.
pub(super) async fn end(mut sink: SplitSink<WebSocket, Message>) {
    let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    // Whether the client takes part in the closing or has left already makes no difference.
    if sink.send(Message::Close(Some(frame))).await.is_ok() {
        drop(sink.close().await);
    }
}

/// A request that may become a WebSocket.
pub(super) struct Upgrade {
    upgrade: WebSocketUpgrade,
}

impl Upgrade {
    /// Checks that the request asks for a WebSocket with a protocol we speak.
    ///
    /// # Errors
    /// 400 saying what is spoken.
    pub(super) async fn of(request: Request) -> Result<Self, ApiError> {
        let (mut parts, _) = request.into_parts();
        let offers = |protocol: &str| {
            let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
            offered
                .filter_map(|value| value.to_str().ok())
                .flat_map(|text| text.split(','))
                .any(|own| own.trim() == protocol)
        };
        let spoken = PROTOCOLS.iter().any(|protocol| offers(protocol));
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.ok();
        match upgrade {
            Some(upgrade) if spoken => Ok(Self { upgrade }),
            _ => Err(ApiError::bad_request(format!(
                "unable to upgrade: this stream is a WebSocket over HTTP/1.1 with one of the protocols {}",
                PROTOCOLS.join(", ")
            ))),
        }
    }

    /// Answers 101 and runs `bridge` on the socket until it ends, the server leaves, or the right to it is gone.
    pub(super) fn run<F, Fut>(self, streams: &Streams, grant: Arc<Grant>, bridge: F) -> Response
    where
        F: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (token, shutdown) = (streams.tasks.token(), streams.shutdown.clone());
        let upgrade = self.upgrade.max_message_size(MESSAGE_BYTES_MAX).protocols(PROTOCOLS);
        upgrade.on_upgrade(async move |socket| {
            let _token = token;
            tokio::select! {
                () = bridge(socket) => {} // the others end it: not resumed
                () = grant.revoked() => {} // cancel-safe: only a timer
                () = shutdown.cancelled() => {} // cancel-safe: a token stays cancelled
            }
        })
    }
}
