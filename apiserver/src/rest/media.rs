//! Media types: what the client sends, and in which form it wants the answer.

use drover_api::status::ApiError;
use http::{HeaderMap, header};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The objects themselves.
    Object,
    /// `PartialObjectMetadata` and its list.
    Metadata,
    /// `Table` of the version named (`v1` or `v1beta1`).
    Table(&'static str),
}

/// The outcome of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accept {
    pub(super) form: Form,
    pub(super) pretty: bool,
}

/// Media types of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchType {
    Json,
    Merge,
    Strategic,
}

/// Chooses the first form in the `Accept` headers that is served.
///
/// # Errors
/// 406 when there is none.
pub(super) fn negotiate(headers: &HeaderMap, pretty: bool) -> Result<Accept, ApiError> {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        for clause in value.to_str().unwrap_or_default().split(',').filter(|clause| !clause.trim().is_empty()) {
            any = true;
            if let Some(form) = form_of(clause) {
                return Ok(Accept { form, pretty });
            }
        }
    }
    if any {
        return Err(ApiError::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        ));
    }
    Ok(Accept { form: Form::Object, pretty })
}

fn form_of(clause: &str) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let (mut kind, mut version, mut group) = ("", "", "");
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "as" => kind = value,
            "v" => version = value,
            "g" => group = value,
            _ => {}
        }
    }
    if !matches!(media, "application/json" | "application/*" | "*/*") {
        return None;
    }
    match (kind, group, version) {
        ("", _, _) => Some(Form::Object),
        ("Table", "meta.k8s.io", "v1") => Some(Form::Table("v1")),
        ("Table", "meta.k8s.io", "v1beta1") => Some(Form::Table("v1beta1")),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Some(Form::Metadata),
        _ => None,
    }
}

/// Returns the media type of the body without parameters, in lower case; `""` when absent.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads the type of a patch.
///
/// # Errors
/// 415 for every other type.
pub(super) fn patch_type(headers: &HeaderMap) -> Result<PatchType, ApiError> {
    match content_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        _ => Err(unsupported(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
        )),
    }
}

/// 415, worded as Kubernetes does.
pub(super) fn unsupported(accepted: &str) -> ApiError {
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str) -> Result<Form, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        negotiate(&headers, false).map(|accept| accept.form).map_err(|error| error.code)
    }

    #[test]
    fn the_first_form_that_is_served_wins() {
        const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(form(KUBECTL), Ok(Form::Table("v1")));
        assert_eq!(form(METADATA), Ok(Form::Metadata));
        assert_eq!(form("application/vnd.kubernetes.protobuf, */*"), Ok(Form::Object));
        assert_eq!(form("application/json;stream=watch"), Ok(Form::Object));
        assert_eq!(form("application/json; as=Table; v=v1beta1; g=meta.k8s.io"), Ok(Form::Table("v1beta1")));
        assert_eq!(form("application/json;as=Nonsense;v=v1;g=meta.k8s.io"), Err(406));
        assert_eq!(form("text/html"), Err(406));
        assert_eq!(negotiate(&HeaderMap::new(), false).map(|accept| accept.form), Ok(Form::Object));
    }
}
