//! The body of an answer on its way back: broken, held or doubled as its part's link is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::Response;
use http_body::Frame;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use crate::{
    link::Link,
    transport::Broken,
    wire::{Life, Wire},
};

/// A body that may end in a broken connection.
pub(crate) struct WatchBody {
    frames: BoxStream<'static, Result<Frame<Bytes>, Broken>>,
}

impl std::fmt::Debug for WatchBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WatchBody").finish_non_exhaustive()
    }
}

/// What a body on its way needs to know.
struct Journey {
    body: BoxStream<'static, Result<Bytes, Broken>>,
    wire: Wire,
    life: Life,
    server_life: Life,
    breaks: watch::Receiver<u64>,
    is_watch: bool,
    again: Option<Bytes>,
    over: bool,
}

impl WatchBody {
    /// Sends `body` on its way.
    pub(crate) fn new(
        body: BoxStream<'static, Result<Bytes, Broken>>,
        is_watch: bool,
        wire: Wire,
        life: Life,
        server_life: Life,
    ) -> Self {
        let mut breaks = wire.watch_breaks(life.part);
        breaks.mark_unchanged();
        let journey = Journey { body, wire, life, server_life, breaks, is_watch, again: None, over: false };
        let frames = futures::stream::unfold(journey, |mut journey| async move {
            let frame = journey.next().await?;
            Some((frame.map(Frame::data), journey))
        });
        Self { frames: frames.boxed() }
    }
}

impl Journey {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if self.over {
            return None;
        }
        if let Some(again) = self.again.take() {
            return Some(Ok(again));
        }
        let chunk = tokio::select! {
            biased;
            // Cancel-safe: whatever is dropped here was on a connection that has ended.
            () = self.server_life.over() => Some(Err(Broken::Reset)),
            Ok(()) = self.breaks.changed(), if self.is_watch => Some(Err(Broken::Reset)),
            chunk = self.body.next() => chunk,
        };
        let Some(Ok(chunk)) = chunk else {
            self.over = true;
            return chunk;
        };
        if !self.is_watch {
            return Some(Ok(chunk));
        }
        if !self.wire.travel(self.life.part, held_or_blocked).await || self.server_life.is_over() {
            self.over = true;
            return Some(Err(Broken::Reset));
        }
        if self.life.is_over() {
            return self.life.hold().await;
        }
        if self.wire.link(self.life.part, |link| link.duplicates(Instant::now())) {
            self.again = Some(chunk.clone());
        }
        Some(Ok(chunk))
    }
}

fn held_or_blocked(link: &Link, now: Instant) -> Option<Instant> {
    link.watches_held(now).into_iter().chain(link.replies_blocked(now)).max()
}

/// The answer to a watch whose history is gone, as the API server words it.
pub(crate) fn gone() -> Response<WatchBody> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    });
    let line = Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status})));
    let mut response = Response::new(WatchBody { frames: futures::stream::iter([Ok(Frame::data(line))]).boxed() });
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.frames).poll_next(context)
    }
}
