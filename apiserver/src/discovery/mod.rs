//! What the server serves, told to clients: discovery in three forms, and OpenAPI v3.
//!
//! Everything here is a pure function of `drover_api::kinds`, encoded once and answered with an ETag.

mod aggregated;
mod legacy;
mod negotiate;
mod openapi;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use drover_api::{kinds, status::ApiError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    front::{Body, Response},
    request::RequestInfo,
};
use negotiate::{Form, Offer};
use openapi::OpenApi;

/// Every document, by path.
#[derive(Debug)]
pub(crate) struct Discovery {
    documents: BTreeMap<String, Document>,
    openapi: OpenApi,
}

/// One path's answers: the plain one, and the aggregated ones where there are such.
#[derive(Debug)]
struct Document {
    plain: Encoded,
    v2: Option<Encoded>,
    v2beta1: Option<Encoded>,
}

/// Bytes with their fingerprint.
#[derive(Debug, Clone)]
struct Encoded {
    bytes: Bytes,
    etag: String,
}

impl Discovery {
    /// Builds every document. `server_address` (`host:port`) is shown to clients that ask `/api`.
    pub(crate) fn new(server_address: &str) -> Self {
        let mut documents = BTreeMap::new();
        let kinds = kinds::all();
        let both = |path: &str, plain: Value, core: bool| {
            let v2 = Some(Encoded::new(&aggregated::list(kinds, core, "v2")));
            let v2beta1 = Some(Encoded::new(&aggregated::list(kinds, core, "v2beta1")));
            (path.to_owned(), Document { plain: Encoded::new(&plain), v2, v2beta1 })
        };
        documents.extend([both("/api", legacy::api_versions(server_address), true)]);
        documents.extend([both("/apis", legacy::group_list(kinds), false)]);
        let mut plain = |path: String, value: Value| {
            documents.insert(path, Document { plain: Encoded::new(&value), v2: None, v2beta1: None });
        };
        for (group, version) in kinds::group_versions() {
            if !group.is_empty() {
                plain(format!("/apis/{group}"), legacy::group(kinds, group));
            }
            plain(base_path(group, version), legacy::resource_list(kinds, group, version));
        }
        let mut paths: Vec<String> = documents.keys().cloned().collect();
        paths.extend(["/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
        paths.sort();
        documents.insert(
            "/".to_owned(),
            Document { plain: Encoded::new(&json!({"paths": paths})), v2: None, v2beta1: None },
        );
        Self { documents, openapi: OpenApi::default() }
    }

    /// Answers a discovery or OpenAPI path; `None` for any other path.
    ///
    /// # Errors
    /// 406 when the client accepts no form of the document.
    pub(crate) fn answer(&self, info: &RequestInfo, headers: &HeaderMap) -> Option<Result<Response, ApiError>> {
        if info.path.starts_with("/openapi/v3") {
            return self.openapi.answer(info, headers);
        }
        let document = self.documents.get(&info.path)?;
        Some(document.answer(headers))
    }
}

impl Document {
    fn answer(&self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let offer = Offer { aggregated: self.v2.is_some() };
        let form = negotiate::choose(headers, offer)?;
        let (encoded, media_type) = match form {
            Form::Plain => (Some(&self.plain), "application/json"),
            Form::V2 => (self.v2.as_ref(), "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
            Form::V2Beta1 => {
                (self.v2beta1.as_ref(), "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")
            }
        };
        let mut response = encoded.unwrap_or(&self.plain).respond(headers, media_type);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }
}

impl Encoded {
    fn new(value: &Value) -> Self {
        let bytes = drover_api::object::to_bytes(value);
        let etag = hex(&Sha256::digest(&bytes));
        Self { bytes: bytes.into(), etag }
    }

    /// Answers with the bytes, or 304 to a client that has them.
    fn respond(&self, headers: &HeaderMap, media_type: &'static str) -> Response {
        let quoted = format!("\"{}\"", self.etag);
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| value.as_bytes() == quoted.as_bytes());
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.bytes.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        if let Ok(etag) = HeaderValue::from_str(&quoted) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }
}

/// Returns `/api/v1` or `/apis/<group>/<version>`.
fn base_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A short fingerprint of a kind's stored form, as clients compare it.
fn storage_version_hash(kind: &kinds::Kind) -> String {
    let text = format!("{}/{}/{}", kind.group, kind.version, kind.kind);
    STANDARD.encode(&Sha256::digest(text)[..8])
}
