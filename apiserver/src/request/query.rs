//! Decoding a query string, refusing repeated keys.

use drover_api::status::ApiError;

use super::path::decode;

/// Keys that Kubernetes clients may send more than once.
const REPEATABLE: [&str; 3] = ["command", "dryRun", "ports"];

/// Parses `a=1&b=2`; a key without `=` has the empty value.
pub(super) fn parse(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let (key, value) = (form_decode(key)?, form_decode(value)?);
        if !REPEATABLE.contains(&key.as_str()) && pairs.iter().any(|(earlier, _)| *earlier == key) {
            return Err(ApiError::bad_request(format!("query parameter {key:?} is given more than once")));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// Returns `x` of a field selector that holds `metadata.name=x`; `None` when no object can have that name.
pub(super) fn selected_name(selector: &str) -> Option<String> {
    let name = selector.split(',').find_map(|term| {
        let value = term.trim().strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value).trim().to_owned())
    });
    name.filter(|name| drover_api::names::path_segment(name).is_empty())
}

fn form_decode(text: &str) -> Result<String, ApiError> {
    decode(&text.replace('+', " "))
        .ok_or_else(|| ApiError::bad_request("the query is not valid percent-encoded UTF-8".to_owned()))
}
