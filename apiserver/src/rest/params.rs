//! Query parameters. Unknown ones are ignored, bad values are 400.

use std::time::Duration;

use drover_api::{
    decode::FieldValidation,
    kinds::Kind,
    labels::{FieldSelector, LabelSelector},
    status::ApiError,
};
use http::{HeaderMap, header};

use crate::{
    registry::{DeleteOptions, Environment, ListOptions, Propagation, VersionMatch, WatchOptions},
    request::RequestInfo,
};

/// Watches without `timeoutSeconds` last a random time from this to twice as long, as in Kubernetes.
const WATCH_SECS_MIN: u64 = 1800;
/// Longer field manager names are refused, as in Kubernetes.
const FIELD_MANAGER_MAX: usize = 128;

/// Whether people read the answer: `?pretty`, or a tool that shows it raw.
pub(super) fn wants_pretty(info: &RequestInfo, headers: &HeaderMap) -> bool {
    if info.query("pretty").is_some() {
        return info.flag("pretty").unwrap_or(false);
    }
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool))
}

/// Reads what a list selects.
pub(super) fn list_options(kind: &Kind, info: &RequestInfo) -> Result<ListOptions, ApiError> {
    let text = |key| info.query(key).unwrap_or_default();
    let version_match = match text("resourceVersionMatch") {
        "" => None,
        "Exact" => Some(VersionMatch::Exact),
        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
        other => return Err(bad("resourceVersionMatch", other)),
    };
    let (labels, fields) = (text("labelSelector"), text("fieldSelector"));
    Ok(ListOptions {
        labels: LabelSelector::parse(labels)?,
        fields: FieldSelector::parse(kind, fields)?,
        selectors_text: format!("{labels}&{fields}"),
        resource_version: text("resourceVersion").to_owned(),
        version_match,
        limit: usize::try_from(integer(info, "limit")?.unwrap_or(0).max(0)).unwrap_or(usize::MAX),
        continue_token: text("continue").to_owned(),
    })
}

/// Reads what a watch asks for.
pub(super) fn watch_options(
    kind: &Kind,
    info: &RequestInfo,
    environment: &dyn Environment,
) -> Result<WatchOptions, ApiError> {
    let asked = integer(info, "timeoutSeconds")?.and_then(|secs| u64::try_from(secs).ok()).filter(|secs| *secs > 0);
    let secs = asked.unwrap_or_else(|| WATCH_SECS_MIN + environment.below(WATCH_SECS_MIN));
    Ok(WatchOptions {
        list: list_options(kind, info)?,
        bookmarks: info.flag("allowWatchBookmarks")?,
        send_initial: match info.query("sendInitialEvents") {
            None => None,
            Some(_) => Some(info.flag("sendInitialEvents")?),
        },
        timeout: Duration::from_secs(secs),
    })
}

/// Whether the write is a rehearsal.
pub(super) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, ApiError> {
    let mut found = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            return Err(ApiError::new(
                422,
                "Invalid",
                format!("dryRun: Unsupported value: {value:?}: supported values: \"All\""),
            ));
        }
        found = true;
    }
    Ok(found)
}

/// Reads `fieldValidation`; without it unknown fields are dropped with a warning, as in Kubernetes.
pub(super) fn field_validation(info: &RequestInfo) -> Result<FieldValidation, ApiError> {
    match info.query("fieldValidation").unwrap_or_default() {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(ApiError::new(
            422,
            "Invalid",
            format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ),
        )),
    }
}

/// Reads `fieldManager`.
pub(super) fn field_manager(info: &RequestInfo) -> Result<String, ApiError> {
    let manager = info.query("fieldManager").unwrap_or_default();
    if manager.len() > FIELD_MANAGER_MAX {
        return Err(bad("fieldManager", "a name longer than 128 characters"));
    }
    Ok(manager.to_owned())
}

/// Adds what the query says about a deletion to what the body said.
pub(super) fn add_delete_options(info: &RequestInfo, options: &mut DeleteOptions) -> Result<(), ApiError> {
    if let Some(secs) = integer(info, "gracePeriodSeconds")? {
        options.grace_period_secs = Some(secs.max(0));
    }
    if let Some(policy) = info.query("propagationPolicy").filter(|policy| !policy.is_empty()) {
        options.propagation = Some(Propagation::parse(policy)?);
    } else if info.query("orphanDependents").is_some() {
        let orphan = info.flag("orphanDependents")?;
        options.propagation = Some(if orphan { Propagation::Orphan } else { Propagation::Background });
    }
    Ok(())
}

fn integer(info: &RequestInfo, key: &str) -> Result<Option<i64>, ApiError> {
    match info.query(key) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| bad(key, text)),
    }
}

fn bad(key: &str, value: &str) -> ApiError {
    ApiError::bad_request(format!("invalid value {value:?} for query parameter {key:?}"))
}
