//! Connections that agents dialled, used the other way round: the agent serves HTTP/2, this server asks.
//!
//! Owns who is connected. One tunnel a node, the newest wins. This is the only way from a server to a node: no
//! address of a node is ever dialled (A36). An agent that is connected to another server is asked through that one.

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use drover_api::status::ApiError;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use upgrade::upgrade;

use crate::{
    front::{Body, Request},
    servers::Servers,
};

/// An agent that does not answer a ping within `PING_PATIENCE` is gone.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// An agent answers with headers at once, whatever the body waits for.
const HEADERS_PATIENCE: Duration = Duration::from_secs(20);

/// Every connected agent.
#[derive(Debug)]
pub struct Tunnels {
    nodes: Mutex<HashMap<String, Tunnel>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// The other servers; unset where there can be none.
    servers: OnceLock<Arc<Servers>>,
}

#[derive(Debug)]
struct Tunnel {
    sender: http2::SendRequest<Body>,
    /// Ends the connection's task.
    replaced: CancellationToken,
}

impl Tunnels {
    /// Builds an empty table; connections end with `shutdown`.
    pub(crate) fn new(tasks: TaskTracker, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { nodes: Mutex::default(), tasks, shutdown, servers: OnceLock::new() })
    }

    /// Takes a byte stream at whose other end the agent of `node` serves HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// When the HTTP/2 connection cannot be set up.
    pub async fn accept<T>(self: &Arc<Self>, node: &str, io: T) -> Result<(), hyper::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await?;
        let replaced = self.shutdown.child_token();
        let tunnel = Tunnel { sender, replaced: replaced.clone() };
        if let Some(old) = self.lock().insert(node.to_owned(), tunnel) {
            if drover_api::mutants::active("C20-leaks-the-old-stream") {
                std::mem::forget(old);
            } else {
                old.replaced.cancel();
            }
        }
        tracing::debug!(node.name = node, "tunnel opened");
        let (tunnels, node) = (Arc::clone(self), node.to_owned());
        self.tasks.spawn(async move {
            tokio::select! {
                () = replaced.cancelled() => {} // cancel-safe: a token stays cancelled
                result = connection => tracing::debug!(node.name = node, ?result, "tunnel closed"), // not resumed
            }
            if !replaced.is_cancelled() {
                tunnels.forget_closed(&node);
            }
        });
        Ok(())
    }

    /// Returns the nodes whose agents are connected, in order.
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self.lock().keys().cloned().collect();
        nodes.sort();
        nodes
    }

    /// Says whom to ask for agents that are not connected here.
    pub(crate) fn set_servers(&self, servers: &Arc<Servers>) {
        // One server has one view of the others; a second call would not change which.
        _ = self.servers.set(Arc::clone(servers));
    }

    /// Whether agents may be connected to other servers.
    pub(crate) fn are_shared(&self) -> bool {
        self.servers.get().is_some()
    }

    /// Sends a request to the agent of `node`, at whichever server it is connected; its path and query are the agent's.
    ///
    /// # Errors
    /// 503 when the agent is not connected, hangs up, or does not answer in time.
    pub(crate) async fn send(&self, node: &str, request: Request) -> Result<http::Response<Incoming>, ApiError> {
        let is_here = self.lock().contains_key(node);
        let Some(servers) = self.servers.get().filter(|_| !is_here) else { return self.send_here(node, request).await };
        let forwarded = tokio::time::timeout(HEADERS_PATIENCE, servers.forward(node, request)).await;
        match forwarded {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(unreachable(node, "its agent is not connected to any server")),
            Err(_) => Err(unreachable(node, "its agent does not answer")),
        }
    }

    /// Sends a request to an agent that is connected to this server.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn send_here(&self, node: &str, request: Request) -> Result<http::Response<Incoming>, ApiError> {
        let sender = self.lock().get(node).map(|tunnel| tunnel.sender.clone());
        let Some(mut sender) = sender else { return Err(unreachable(node, "its agent is not connected")) };
        match tokio::time::timeout(HEADERS_PATIENCE, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(unreachable(node, "its agent hung up")),
            Err(_) => Err(unreachable(node, "its agent does not answer")),
        }
    }

    fn forget_closed(&self, node: &str) {
        let mut nodes = self.lock();
        if nodes.get(node).is_some_and(|tunnel| tunnel.sender.is_closed()) {
            nodes.remove(node);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Tunnel>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreachable(node: &str, why: &str) -> ApiError {
    let mut error = ApiError::new(503, "ServiceUnavailable", format!("node {node:?} cannot be reached: {why}"));
    error.details = json!({"name": node, "kind": "nodes", "retryAfterSeconds": 1});
    error
}
