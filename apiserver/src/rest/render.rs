//! Answers: objects, lists and errors in the form the client asked for.

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use drover_api::{
    kinds::Kind,
    object::{at, to_bytes},
    status::ApiError,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    media::{Accept, Form},
    table::{Include, Printer},
};
use crate::{
    cache::Object,
    registry::{List, to_view},
};

/// Lists are sent in pieces of about this size, so that no list is ever held twice.
const CHUNK: usize = 256 << 10;

/// How the objects of one answer are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renderer {
    pub(super) kind: &'static Kind,
    pub(super) accept: Accept,
    pub(super) include: Include,
    pub(super) now_secs: i64,
}

impl Renderer {
    /// Answers with one object.
    pub(super) fn object(&self, code: StatusCode, object: &Object) -> Response {
        let body = match self.accept.form {
            Form::Object => self.bytes(object),
            Form::Metadata => to_bytes(&metadata_of(&object.to_value())).into(),
            Form::Table(version) => {
                let value = to_view(self.kind, object.to_value());
                let printer = Printer::new(self.kind, version, self.include, self.now_secs);
                let metadata = json!({"resourceVersion": object.revision.to_string()});
                to_bytes(&printer.table(&metadata, std::iter::once(&value), true)).into()
            }
        };
        self.finish(code, body)
    }

    /// Answers with a list.
    pub(super) fn list(&self, list: List) -> Response {
        let metadata = list_metadata(&list);
        match self.accept.form {
            Form::Object if !self.accept.pretty => {
                let head = list_head(&self.kind.api_version(), &format!("{}List", self.kind.kind), &metadata);
                let kind = self.kind;
                spliced(head, list, move |object| view_bytes(kind, object))
            }
            Form::Metadata if !self.accept.pretty => {
                let head = list_head("meta.k8s.io/v1", "PartialObjectMetadataList", &metadata);
                spliced(head, list, |object| to_bytes(&metadata_of(&object.to_value())).into())
            }
            Form::Object => self.whole_list(&list, &metadata, |object| to_view(self.kind, object.to_value())),
            Form::Metadata => self.whole_list(&list, &metadata, |object| metadata_of(&object.to_value())),
            Form::Table(version) => {
                let values: Vec<Value> =
                    list.items.iter().map(|object| to_view(self.kind, object.to_value())).collect();
                let printer = Printer::new(self.kind, version, self.include, self.now_secs);
                self.finish(StatusCode::OK, to_bytes(&printer.table(&metadata, values.iter(), true)).into())
            }
        }
    }

    /// Returns the wire form of an object in the view of this answer's kind.
    pub(super) fn bytes(&self, object: &Object) -> Bytes {
        view_bytes(self.kind, object)
    }

    /// Answers with any JSON document.
    pub(super) fn value(&self, code: StatusCode, value: &Value) -> Response {
        self.finish(code, to_bytes(value).into())
    }

    fn whole_list(&self, list: &List, metadata: &Value, item: impl Fn(&Object) -> Value) -> Response {
        let (api_version, kind) = match self.accept.form {
            Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
            Form::Object | Form::Table(_) => (self.kind.api_version(), format!("{}List", self.kind.kind)),
        };
        let items: Vec<Value> = list.items.iter().map(|object| item(object)).collect();
        self.value(
            StatusCode::OK,
            &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}),
        )
    }

    fn finish(&self, code: StatusCode, body: Bytes) -> Response {
        json_response(code, if self.accept.pretty { indent(&body) } else { body })
    }
}

/// Answers with a `Status` object for an error.
pub fn error_response(error: &ApiError) -> Response {
    error_response_with(error, false)
}

/// As [`error_response`], indented for people.
pub(super) fn error_response_with(error: &ApiError, pretty: bool) -> Response {
    let body = Bytes::from(to_bytes(&error.to_status()));
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(code, if pretty { indent(&body) } else { body });
    if let Some(secs) = at(&error.details, &["retryAfterSeconds"]).and_then(Value::as_u64) {
        response.headers_mut().insert(header::RETRY_AFTER, secs.into());
    }
    response
}

/// Adds `Warning: 299` headers.
pub(super) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Returns the `PartialObjectMetadata` of an object.
pub(super) fn metadata_of(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").unwrap_or(&Value::Null),
    })
}

/// Builds a JSON answer.
pub(super) fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn view_bytes(kind: &'static Kind, object: &Object) -> Bytes {
    if kind.stored_as.is_none() {
        return object.bytes().clone();
    }
    to_bytes(&to_view(kind, object.to_value())).into()
}

fn list_metadata(list: &List) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), list.revision.to_string().into());
    if !list.continue_token.is_empty() {
        metadata.insert("continue".to_owned(), list.continue_token.clone().into());
    }
    if let Some(remaining) = list.remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    metadata.into()
}

fn list_head(api_version: &str, kind: &str, metadata: &Value) -> BytesMut {
    let mut head = BytesMut::with_capacity(CHUNK / 8);
    head.put_slice(
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
            .as_bytes(),
    );
    head
}

/// Writes the items one after another behind `head`: in one piece when small, else in chunks as the client reads.
fn spliced(head: BytesMut, list: List, item: impl Fn(&Object) -> Bytes + Send + 'static) -> Response {
    let mut items = list.items.into_iter().enumerate();
    let mut buffer = head;
    let mut open = true;
    let mut chunks = std::iter::from_fn(move || {
        if !open {
            return None;
        }
        for (index, object) in items.by_ref() {
            if index > 0 {
                buffer.put_u8(b',');
            }
            buffer.put_slice(&item(&object));
            if buffer.len() >= CHUNK {
                return Some(buffer.split().freeze());
            }
        }
        open = false;
        buffer.put_slice(b"]}");
        Some(buffer.split().freeze())
    });
    let first = chunks.next().unwrap_or_default();
    let Some(second) = chunks.next() else { return json_response(StatusCode::OK, first) };
    let all = [first, second].into_iter().chain(chunks).map(Ok::<_, std::convert::Infallible>);
    json_response(StatusCode::OK, Body::from_stream(futures::stream::iter(all)))
}

fn indent(body: &Bytes) -> Bytes {
    let pretty = serde_json::from_slice::<Value>(body).and_then(|value| serde_json::to_vec_pretty(&value));
    pretty.map_or_else(
        |_| body.clone(),
        |mut text| {
            text.push(b'\n');
            text.into()
        },
    )
}
