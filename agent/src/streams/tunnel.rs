//! The tunnel, kept open: dial, serve until it breaks, dial again.

use std::{sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::service::StreamService;
use crate::seams::{TunnelDialer, TunnelIo};

/// Logs and exec hang on the tunnel, so the first try comes soon after a break; a server that is down is not asked more
/// often than this.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A tunnel that lived this long was healthy: its break starts the back-off anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// A peer that vanished without a word is noticed after interval and timeout together.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Every follower of a log is one stream.
const STREAMS_MAX: u32 = 4096;
/// How much a stream may have in flight: enough for a fast exec, little enough for thousands of followers.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves `service` on the tunnel, dialled again whenever it breaks, until `shutdown`.
pub async fn run_tunnel(dialer: Arc<dyn TunnelDialer>, service: StreamService, shutdown: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let started = tokio::time::Instant::now();
        // Cancel-safe: at shutdown the streams end with the agent.
        let problem = tokio::select! {
            () = shutdown.cancelled() => return,
            problem = dial_and_serve(dialer.as_ref(), &service) => problem,
        };
        if started.elapsed() >= HEALTHY_AFTER {
            backoff = BACKOFF_MIN;
        }
        tracing::info!(problem, backoff_ms = backoff.as_millis(), "tunnel is down; dialling again");
        let jittered = backoff.mul_f64(rand::random_range(0.5..1.0));
        // Cancel-safe: a sleep holds nothing.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(jittered) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn dial_and_serve(dialer: &dyn TunnelDialer, service: &StreamService) -> String {
    match dialer.dial().await {
        Err(error) => format!("cannot dial: {error}"),
        Ok(io) => match serve(io, service).await {
            Ok(()) => "the server closed it".to_owned(),
            Err(error) => error.to_string(),
        },
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(io: Box<dyn TunnelIo>, service: &StreamService) -> Result<(), hyper::Error> {
    let answer = service_fn(|request| {
        let service = service.clone();
        async move { service.answer(request).await }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_connection(TokioIo::new(io), answer)
        .await
}
