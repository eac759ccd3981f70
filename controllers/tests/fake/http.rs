//! Requests and answers.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};

use super::store::{Fake, Refusal, key};

type Answer = http::Response<StreamBody<UnboundedReceiver<Result<Frame<Bytes>, Infallible>>>>;

/// Returns a client of the fake.
pub(crate) fn client(fake: &Fake) -> kube::Client {
    let fake = fake.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let fake = fake.clone();
        async move { Ok::<_, Infallible>(answer(&fake, request).await) }
    });
    kube::Client::new(service, "default")
}

/// What a path names.
struct Target {
    collection: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

fn parse(path: &str) -> Target {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let group = if parts.remove(0) == "apis" { parts.remove(0) } else { "" };
    parts.remove(0);
    let mut namespace = "";
    if parts.first() == Some(&"namespaces") && parts.len() > 2 && parts[2] != "status" && parts[2] != "finalize" {
        namespace = parts[1];
        parts.drain(..2);
    }
    let word = |index: usize| parts.get(index).filter(|word| !word.is_empty()).map(|word| (*word).to_owned());
    let collection = format!("{group}/{}", parts[0]);
    Target { collection, namespace: namespace.to_owned(), name: word(1), subresource: word(2) }
}

async fn answer(fake: &Fake, request: http::Request<Body>) -> Answer {
    let target = parse(request.uri().path());
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3D", "=")))
        .collect();
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if method == http::Method::GET && query.get("watch").is_some_and(|watch| watch == "true") {
        return watch(fake, target, &query);
    }
    let result = match (method.as_str(), &target.name) {
        ("GET", None) => Ok(list(fake, &target, &query)),
        ("GET", Some(name)) => {
            fake.get(&target.collection, &target.namespace, name).ok_or((404, "NotFound", "not found".to_owned()))
        }
        ("POST", None) => {
            let mut object = body;
            if !target.namespace.is_empty() {
                object["metadata"]["namespace"] = json!(target.namespace);
            }
            fake.create(&target.collection, object)
        }
        ("PATCH", Some(name)) => {
            fake.patch(&key(&target.collection, &target.namespace, name), &body, target.subresource.as_deref())
        }
        ("DELETE", Some(name)) => fake.delete(&key(&target.collection, &target.namespace, name), &body),
        ("PUT", Some(name)) if target.subresource.as_deref() == Some("finalize") => {
            fake.finalize(&key(&target.collection, &target.namespace, name), &body)
        }
        other => Err((405, "MethodNotAllowed", format!("{other:?}"))),
    };
    respond(result)
}

fn respond(result: Result<Value, Refusal>) -> Answer {
    let (code, value) = match result {
        Ok(value) => (200, value),
        Err((code, reason, message)) => (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
        ),
    };
    let (tx, rx) = unbounded();
    tx.unbounded_send(Ok(Frame::data(Bytes::from(value.to_string())))).unwrap();
    http::Response::builder().status(code).body(StreamBody::new(rx)).unwrap()
}

fn selected(target: &Target, query: &BTreeMap<String, String>, object: &Value) -> bool {
    let in_namespace = target.namespace.is_empty() || object["metadata"]["namespace"] == json!(target.namespace);
    let named = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    in_namespace && named.is_none_or(|name| object["metadata"]["name"] == json!(name))
}

fn list(fake: &Fake, target: &Target, query: &BTreeMap<String, String>) -> Value {
    let mut items = fake.list(&target.collection);
    items.retain(|object| selected(target, query, object));
    // A token is a position: tests do not write between the pages of a list.
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (first, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let last = first.saturating_add(limit).min(items.len());
    let token = if last < items.len() { last.to_string() } else { String::new() };
    let metadata = json!({"resourceVersion": fake.lock().revision.to_string(), "continue": token});
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items[first.min(last)..last]})
}

fn watch(fake: &Fake, target: Target, query: &BTreeMap<String, String>) -> Answer {
    let (tx, rx) = unbounded();
    let since: u64 = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let (fake, query) = (fake.clone(), query.clone());
    tokio::spawn(async move {
        let mut changed = fake.changed.subscribe();
        let mut reached = since;
        loop {
            reached = send_since(&fake, &target, &query, reached, &tx);
            match changed.recv().await {
                Ok(true) if !tx.is_closed() => {}
                _ => return,
            }
        }
    });
    http::Response::builder().status(200).body(StreamBody::new(rx)).unwrap()
}

fn send_since(
    fake: &Fake,
    target: &Target,
    query: &BTreeMap<String, String>,
    since: u64,
    tx: &UnboundedSender<Result<Frame<Bytes>, Infallible>>,
) -> u64 {
    let state = fake.lock();
    let start = state.history.partition_point(|(revision, ..)| *revision <= since);
    for (_, collection, kind, object) in &state.history[start..] {
        if *collection == target.collection && selected(target, query, object) {
            let line = format!("{}\n", json!({"type": kind, "object": object}));
            let _ = tx.unbounded_send(Ok(Frame::data(Bytes::from(line))));
        }
    }
    state.revision
}
