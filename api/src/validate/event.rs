//! Events, in both of their shapes.

use super::{cursor::At, report::Errors};
use crate::names;

/// Longest reason, action and reporting instance, and longest message, in bytes.
const WORD_BYTES_MAX: usize = 128;
const NOTE_BYTES_MAX: usize = 1024;

/// Checks a core `v1` Event. The old form, without `eventTime`, has few rules.
pub(super) fn core(root: &At<'_, '_>, errors: &mut Errors) {
    let about = root.get("involvedObject.namespace");
    let namespace = root.get("metadata.namespace").text();
    let is_new = root.get("eventTime").is_set();
    let agrees = match about.text() {
        "" if is_new => matches!(namespace, "default" | "kube-system"),
        "" => matches!(namespace, "" | "default"),
        text => text == namespace,
    };
    if !agrees {
        errors.invalid(&about, "does not match event.namespace");
    }
    if is_new {
        strict(root, "reportingComponent", "message", errors);
    }
}

/// Checks an `events.k8s.io` Event.
pub(super) fn events(root: &At<'_, '_>, errors: &mut Errors) {
    if !root.get("eventTime").is_set() {
        errors.required(&root.get("eventTime"), "");
    }
    strict(root, "reportingController", "note", errors);
    let kind = root.get("type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        errors.invalid_value(&kind, &"".into(), &format!("has invalid value: {}", kind.text()));
    }
    let series = root.get("series");
    if series.is_set() {
        if series.get("count").number().unwrap_or(0) < 2 {
            errors.invalid_value(&series.get("count"), &"".into(), "should be at least 2");
        }
        if !series.get("lastObservedTime").is_set() {
            errors.required(&series.get("lastObservedTime"), "");
        }
    }
}

fn strict(root: &At<'_, '_>, controller: &str, note: &str, errors: &mut Errors) {
    let controller = root.get(controller);
    if controller.text().is_empty() {
        errors.required(&controller, "");
    } else {
        errors.check(&controller, names::qualified_name(controller.text()));
    }
    for field in ["reportingInstance", "action", "reason"] {
        let word = root.get(field);
        if word.text().is_empty() {
            errors.required(&word, "");
        }
        at_most(&word, WORD_BYTES_MAX, errors);
    }
    at_most(&root.get(note), NOTE_BYTES_MAX, errors);
}

fn at_most(text: &At<'_, '_>, bytes_max: usize, errors: &mut Errors) {
    if text.text().len() > bytes_max {
        errors.invalid_value(text, &"".into(), &format!("can have at most {bytes_max} characters"));
    }
}
