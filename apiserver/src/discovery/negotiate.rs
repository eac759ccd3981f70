//! Choosing a form of a document from `Accept`.

use drover_api::status::ApiError;
use http::{HeaderMap, header};

/// The forms of a discovery document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    V2,
    V2Beta1,
}

/// What a document has to offer besides plain JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) aggregated: bool,
}

/// Takes the first form in the client's order that we have.
///
/// # Errors
/// 406 when there is none.
pub(super) fn choose(headers: &HeaderMap, offer: Offer) -> Result<Form, ApiError> {
    let mut asked = false;
    for value in headers.get_all(header::ACCEPT) {
        asked = true;
        let text = value.to_str().unwrap_or_default();
        if let Some(form) = text.split(',').find_map(|clause| form(clause, offer)) {
            return Ok(form);
        }
    }
    if asked { Err(not_acceptable()) } else { Ok(Form::Plain) }
}

fn not_acceptable() -> ApiError {
    let text = "only the following media types are accepted: application/json";
    ApiError::new(406, "NotAcceptable", text)
}

fn form(clause: &str, offer: Offer) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut group, mut version, mut shape) = (None, None, None);
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "g" => group = Some(value),
            "v" => version = Some(value),
            "as" => shape = Some(value),
            _ => {}
        }
    }
    match (group, version, shape) {
        (_, _, None) => Some(Form::Plain),
        (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList")) if offer.aggregated => Some(Form::V2),
        (Some("apidiscovery.k8s.io"), Some("v2beta1"), Some("APIGroupDiscoveryList")) if offer.aggregated => {
            Some(Form::V2Beta1)
        }
        _ => None,
    }
}
