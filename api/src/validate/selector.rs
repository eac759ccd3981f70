//! Labels and label selectors inside objects.

use super::{cursor::At, report::Errors};
use crate::names;

/// Checks a map of labels.
pub(super) fn labels(labels: &At<'_, '_>, errors: &mut Errors) {
    for (key, value) in labels.entries() {
        errors.check_text(labels, key, names::qualified_name(key));
        errors.check_text(labels, value.text(), names::label_value(value.text()));
    }
}

/// Checks a selector's object form.
pub(super) fn label_selector(selector: &At<'_, '_>, errors: &mut Errors) {
    labels(&selector.get("matchLabels"), errors);
    for requirement in selector.get("matchExpressions").items() {
        let values = requirement.get("values");
        match requirement.get("operator").text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
            }
            _ => errors.invalid(&requirement.get("operator"), "not a valid selector operator"),
        }
        let key = requirement.get("key");
        errors.check(&key, names::qualified_name(key.text()));
        for value in values.items() {
            errors.check(&value, names::label_value(value.text()));
        }
    }
}

/// Whether a selector's object form selects everything because it says nothing.
pub(super) fn is_empty(selector: &At<'_, '_>) -> bool {
    selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty()
}
