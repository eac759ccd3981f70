//! Watch streams: one JSON frame a line, objects spliced from the cache.

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use drover_api::object::to_bytes;
use drover_store::Revision;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    media::Form,
    render::{Renderer, json_response, metadata_of},
    table::Printer,
};
use crate::{
    cache::{Change, Object},
    registry::{Frame, Watching, to_view},
};

/// Answers with a watch. The stream ends with the watch; an error becomes an ERROR frame.
pub(super) fn response(renderer: Renderer, watching: Watching) -> Response {
    let writer = FrameWriter { renderer, columns_sent: false };
    let frames = futures::stream::unfold((writer, watching), |(mut writer, mut watching)| async move {
        let bytes = match watching.next().await? {
            Ok(frames) => writer.write(&frames),
            Err(error) => line("ERROR", &to_bytes(&error.to_status())),
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (writer, watching)))
    });
    json_response(StatusCode::OK, Body::from_stream(frames))
}

struct FrameWriter {
    renderer: Renderer,
    columns_sent: bool,
}

impl FrameWriter {
    fn write(&mut self, frames: &[Frame]) -> Bytes {
        let mut out = BytesMut::new();
        for frame in frames {
            let (kind, body) = match frame {
                Frame::Change(Change::Added(object)) => ("ADDED", self.object(object)),
                Frame::Change(Change::Modified(object)) => ("MODIFIED", self.object(object)),
                Frame::Change(Change::Deleted(object)) => ("DELETED", self.object(object)),
                Frame::Bookmark { revision, initial_events_end } => {
                    ("BOOKMARK", self.bookmark(*revision, *initial_events_end))
                }
            };
            put_line(&mut out, kind, &body);
        }
        out.freeze()
    }

    fn object(&mut self, object: &Object) -> Bytes {
        match self.renderer.accept.form {
            Form::Object => self.renderer.bytes(object),
            Form::Metadata => to_bytes(&metadata_of(&object.to_value())).into(),
            Form::Table(version) => {
                let value = to_view(self.renderer.kind, object.to_value());
                self.table(version, object.revision, Some(&value))
            }
        }
    }

    fn bookmark(&mut self, revision: Revision, initial_events_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = match self.renderer.accept.form {
            Form::Object => (self.renderer.kind.kind, self.renderer.kind.api_version()),
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            Form::Table(version) => return self.table(version, revision, None),
        };
        to_bytes(&json!({"kind": kind, "apiVersion": api_version, "metadata": metadata})).into()
    }

    fn table(&mut self, version: &'static str, revision: Revision, object: Option<&Value>) -> Bytes {
        let Renderer { kind, include, now_secs, accept: _ } = self.renderer;
        let metadata = json!({"resourceVersion": revision.to_string()});
        let first = !std::mem::replace(&mut self.columns_sent, true);
        let printer = Printer::new(kind, version, include, now_secs);
        to_bytes(&printer.table(&metadata, object.into_iter(), first)).into()
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_line(&mut out, kind, object);
    out.freeze()
}

fn put_line(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 32);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}
