//! Deployments, ReplicaSets and ControllerRevisions.

use serde_json::Value;

use super::{cursor::At, pod, report::Errors, selector};
use crate::labels::LabelSelector;

/// Checks a Deployment.
pub(super) fn deployment(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    if !crate::mutants::active("C15-accepts-nonsense") {
        errors.non_negative(&spec.get("replicas"));
    }
    selector_and_template(&spec, errors);
    strategy(&spec.get("strategy"), errors);
    errors.non_negative(&spec.get("minReadySeconds"));
    errors.non_negative(&spec.get("revisionHistoryLimit"));
    let deadline = spec.get("progressDeadlineSeconds");
    errors.non_negative(&deadline);
    let min_ready = spec.get("minReadySeconds").number().unwrap_or(0);
    if deadline.number().is_some_and(|seconds| seconds <= min_ready) {
        errors.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

/// Checks a ReplicaSet.
pub(super) fn replica_set(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    errors.non_negative(&spec.get("replicas"));
    errors.non_negative(&spec.get("minReadySeconds"));
    selector_and_template(&spec, errors);
}

/// Checks what may not change in a Deployment or ReplicaSet.
pub(super) fn update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    if !crate::mutants::active("A72-selector-moves") {
        errors.immutable(&root.get("spec.selector"), &old.get("spec.selector"));
    }
}

/// Checks the status of a Deployment.
pub(super) fn deployment_status(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let status = root.get("status");
    for field in ["observedGeneration", "replicas", "unavailableReplicas", "collisionCount"] {
        errors.non_negative(&status.get(field));
    }
    counts(&status, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
    let collisions = status.get("collisionCount");
    if collisions.number().unwrap_or(0) < old.get("status.collisionCount").number().unwrap_or(0) {
        errors.invalid_value(&collisions, &Value::from(collisions.number().unwrap_or(0)), "cannot be decremented");
    }
}

/// Checks the status of a ReplicaSet.
pub(super) fn replica_set_status(root: &At<'_, '_>, errors: &mut Errors) {
    let status = root.get("status");
    for field in ["observedGeneration", "replicas"] {
        errors.non_negative(&status.get(field));
    }
    counts(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
}

/// Checks a ControllerRevision.
pub(super) fn controller_revision(root: &At<'_, '_>, errors: &mut Errors) {
    if !root.get("data").is_set() {
        errors.required(&root.get("data"), "data is mandatory");
    }
    errors.non_negative(&root.get("revision"));
}

/// Checks what may not change in a ControllerRevision.
pub(super) fn controller_revision_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    errors.immutable(&root.get("data"), &old.get("data"));
}

fn counts(status: &At<'_, '_>, fields: &[&str], errors: &mut Errors) {
    let count = |field: &str| status.get(field).number().unwrap_or(0);
    for field in fields {
        errors.non_negative(&status.get(field));
        if count(field) > count("replicas") {
            errors.invalid(&status.get(field), "cannot be greater than status.replicas");
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.invalid(&status.get("availableReplicas"), "cannot be greater than readyReplicas");
    }
}

fn selector_and_template(spec: &At<'_, '_>, errors: &mut Errors) {
    let object = spec.get("selector");
    if !object.is_set() {
        errors.required(&object, "");
    } else {
        selector::label_selector(&object, errors);
        if selector::is_empty(&object) {
            errors.invalid(&object, "empty selector is invalid for deployment");
        }
    }
    let template = spec.get("template");
    match LabelSelector::from_object(object.value()) {
        Err(_) => errors.invalid(&object, "invalid label selector"),
        Ok(parsed) => {
            let labels = template.get("metadata.labels");
            if !parsed.is_empty() && !parsed.matches(labels.map()) {
                let shown =
                    if labels.is_set() { labels.value().clone() } else { Value::Object(serde_json::Map::new()) };
                errors.invalid_value(&labels, &shown, "`selector` does not match template `labels`");
            }
        }
    }
    pod::template(&template, errors);
    let restart = template.get("spec.restartPolicy");
    if matches!(restart.text(), "OnFailure" | "Never") {
        errors.not_supported(&restart, &["Always"]);
    }
    let deadline = template.get("spec.activeDeadlineSeconds");
    if deadline.is_set() {
        errors.forbidden(&deadline, "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

fn strategy(strategy: &At<'_, '_>, errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" => {
            if rolling.is_set() {
                errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if rolling.is_set() {
                rolling_update(&rolling, errors);
            } else {
                errors.required(&rolling, "this should be defaulted and never be nil");
            }
        }
        _ => errors.not_supported(strategy, &["Recreate", "RollingUpdate"]),
    }
}

fn rolling_update(rolling: &At<'_, '_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    count_or_percent(&unavailable, errors);
    count_or_percent(&surge, errors);
    if amount(&unavailable) == Some(0) && amount(&surge) == Some(0) {
        errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
    at_most_100_percent(&unavailable, errors);
}

/// Checks a count or a percentage.
pub(super) fn count_or_percent(at: &At<'_, '_>, errors: &mut Errors) {
    match at.value() {
        Value::String(_) if percent(at).is_none() => errors.invalid(
            at,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
             used for validation is '[0-9]+%')",
        ),
        Value::String(_) | Value::Null => {}
        Value::Number(_) => errors.non_negative(at),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            errors.invalid(at, "must be an integer or percentage (e.g '5%%')");
        }
    }
}

/// Checks that a percentage is no more than everything.
pub(super) fn at_most_100_percent(at: &At<'_, '_>, errors: &mut Errors) {
    if percent(at).is_some_and(|percent| percent > 100) {
        errors.invalid(at, "must not be greater than 100%");
    }
}

fn percent(at: &At<'_, '_>) -> Option<u64> {
    let digits = at.text().strip_suffix('%')?;
    let numeric = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A number too long for the type is above every bound there is.
    numeric.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn amount(at: &At<'_, '_>) -> Option<i64> {
    at.number().or_else(|| percent(at).map(|percent| i64::try_from(percent).unwrap_or(i64::MAX)))
}
