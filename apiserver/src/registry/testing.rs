//! What the tests of this crate share: a registry on a memory backend and requests without a connection.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::body::Body;
use drover_api::kinds::{self, Kind};
use futures::StreamExt;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Environment, Registry, WriteOptions};
use crate::{
    admission::{Admission, Settings},
    request::{RequestInfo, User},
    rest,
    volatile::Volatile,
};

/// Finds a kind by group and plural.
pub(crate) fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural).expect("a served kind")
}

/// A clock that stands still and chance that counts.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    counter: AtomicU64,
}

impl Environment for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn fill(&self, bytes: &mut [u8]) {
        let count = self.counter.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        bytes.iter_mut().zip(count.iter().cycle()).for_each(|(byte, value)| *byte = *value);
    }
}

/// A server without a front.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) registry: Arc<Registry>,
    user: User,
    _shutdown: Arc<DropGuard>,
}

/// An answer read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// An open watch, read line by line.
pub(crate) struct Lines {
    stream: axum::body::BodyDataStream,
    buffer: Vec<u8>,
}

impl Server {
    /// Starts on a memory backend with a default namespace and service account.
    pub(crate) async fn start() -> Self {
        Self::start_on(Arc::new(Volatile::new(1, Vec::new()))).await
    }

    /// Starts on a backend that others may share.
    pub(crate) async fn start_on(backend: Arc<dyn drover_store::Backend>) -> Self {
        let shutdown = CancellationToken::new();
        let admission = Admission::new(Settings::default());
        let (registry, _) =
            Registry::start(backend, Arc::new(Fixed::default()), admission, shutdown.clone()).await.expect("memory");
        let user = User::new("admin", &["system:masters"]);
        let server = Self { registry, user, _shutdown: Arc::new(shutdown.drop_guard()) };
        let options = WriteOptions::of(server.user.clone());
        for (plural, namespace, name) in [("namespaces", "", "default"), ("serviceaccounts", "default", "default")] {
            let object = json!({"kind": kind("", plural).kind, "apiVersion": "v1", "metadata": {"name": name}});
            // Already there when two servers share a backend.
            _ = server.registry.create(kind("", plural), namespace, object, &options).await;
        }
        server
    }

    /// The same server for another user.
    pub(crate) fn as_user(&self, user: User) -> Self {
        Self { user, ..self.clone() }
    }

    /// Sends a request and returns the response unread.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> http::Response<Body> {
        self.send_accepting(method, path, (content_type, ""), body).await
    }

    /// Sends a request with a media type and an `Accept` header.
    pub(crate) async fn send_accepting(
        &self,
        method: &str,
        path: &str,
        (content_type, accept): (&str, &str),
        body: impl Into<Body>,
    ) -> http::Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        if !accept.is_empty() {
            request = request.header("accept", accept);
        }
        let request = request.body(body.into()).expect("valid request");
        let method: Method = method.parse().expect("a method");
        let info = match RequestInfo::parse(&method, request.uri().path(), request.uri().query()) {
            Ok(info) => info,
            Err(error) => return rest::error_response(&error),
        };
        let state = Arc::new(rest::State { registry: Arc::clone(&self.registry) });
        rest::route(state, self.user.clone(), info, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.send("GET", path, "", Body::empty()).await).await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        read(self.send_accepting("GET", path, ("", accept), Body::empty()).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        read(self.send("POST", path, "application/json", body.to_string()).await).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        read(self.send("PUT", path, "application/json", body.to_string()).await).await
    }

    /// `patch_type`: `json`, `merge` or `strategic`.
    pub(crate) async fn patch(&self, path: &str, patch_type: &str, body: &Value) -> Answer {
        let content_type = match patch_type {
            "strategic" => "application/strategic-merge-patch+json".to_owned(),
            other => format!("application/{other}-patch+json"),
        };
        read(self.send("PATCH", path, &content_type, body.to_string()).await).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        read(self.send("DELETE", path, "application/json", body).await).await
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Lines {
        self.watch_as(path, "").await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Lines {
        let response = self.send_accepting("GET", path, ("", accept), Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Lines { stream: response.into_body().into_data_stream(), buffer: Vec::new() }
    }
}

impl Lines {
    /// Waits for the next frame; `None` at the end of the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a frame is one line of JSON"));
            }
            self.buffer.extend_from_slice(&self.stream.next().await?.expect("an unbroken stream"));
        }
    }

    /// Waits for a frame and tells it in short: `ADDED name@value`.
    pub(crate) async fn told(&mut self) -> String {
        let Some(frame) = self.next().await else { return "END".to_owned() };
        let object = &frame["object"];
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match frame["type"].as_str() {
            Some("ERROR") => format!("ERROR {} {}", object["code"], text(&object["reason"])),
            Some("BOOKMARK") => format!("BOOKMARK {}", text(&object["metadata"]["resourceVersion"])),
            kind => {
                format!("{} {} {}", kind.unwrap_or("?"), text(&object["metadata"]["name"]), text(&object["data"]["v"]))
            }
        }
    }
}

impl Answer {
    /// Code and reason of an error, or the code alone.
    pub(crate) fn outcome(&self) -> String {
        match self.body["reason"].as_str() {
            Some(reason) => format!("{} {reason}", self.code),
            None => self.code.to_string(),
        }
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> u64 {
        self.body["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a resourceVersion")
    }

    /// The names of a list's items.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.body["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect()
    }
}

async fn read(response: http::Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("an unbroken body").to_bytes();
    let body =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&bytes)));
    Answer { code: parts.status.as_u16(), headers: parts.headers, body }
}

/// Builds a ConfigMap with one value.
pub(crate) fn config(name: &str, value: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"v": value}})
}

/// Builds a pod of one container.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "hello"}]},
    })
}
