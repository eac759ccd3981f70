//! `/openapi/v3`: an index with fingerprints, and a document for each group and version. Encoded at first use.

use std::sync::OnceLock;

use drover_api::{kinds, openapi, status::ApiError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    Encoded, base_path,
    negotiate::{self, Offer},
};
use crate::{
    front::{Body, Response},
    request::RequestInfo,
};

const ROOT: &str = "/openapi/v3";

#[derive(Debug, Default)]
pub(super) struct OpenApi {
    documents: OnceLock<Vec<(String, Encoded)>>,
    index: OnceLock<Encoded>,
}

impl OpenApi {
    pub(super) fn answer(&self, info: &RequestInfo, headers: &HeaderMap) -> Option<Result<Response, ApiError>> {
        let rest = info.path.strip_prefix(ROOT)?;
        if let Err(error) = negotiate::choose(headers, Offer { aggregated: false }) {
            return Some(Err(error));
        }
        if rest.is_empty() {
            return Some(Ok(self.index().respond(headers, "application/json")));
        }
        let (path, document) = self.documents().iter().find(|(path, _)| path == rest)?;
        Some(Ok(match info.query("hash") {
            Some(hash) if hash != document.etag => moved(path, document),
            Some(_) => forever(document.respond(headers, "application/json")),
            None => document.respond(headers, "application/json"),
        }))
    }

    fn documents(&self) -> &[(String, Encoded)] {
        self.documents.get_or_init(|| {
            let served = kinds::group_versions().into_iter();
            let documents = served.filter_map(|(group, version)| {
                Some((base_path(group, version), Encoded::new(&openapi::v3(group, version)?)))
            });
            documents.collect()
        })
    }

    fn index(&self) -> &Encoded {
        self.index.get_or_init(|| {
            let mut paths = Map::new();
            for (path, document) in self.documents() {
                let url = json!({"serverRelativeURL": url(path, document)});
                paths.insert(path.trim_start_matches('/').to_owned(), url);
            }
            Encoded::new(&json!({"paths": Value::Object(paths)}))
        })
    }
}

fn url(path: &str, document: &Encoded) -> String {
    format!("{ROOT}{path}?hash={}", document.etag)
}

/// A document under its own fingerprint never changes.
fn forever(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    response
}

/// An old fingerprint leads to the current one.
fn moved(path: &str, document: &Encoded) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&url(path, document)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
