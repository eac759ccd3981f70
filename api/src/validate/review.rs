//! Bodies of subresources and of reviews: nothing of them is stored.

use super::{cursor::At, report::Errors};
use crate::names;

/// Checks a Scale.
pub(super) fn scale(root: &At<'_, '_>, errors: &mut Errors) {
    errors.non_negative(&root.get("spec.replicas"));
}

/// Checks a Binding of a pod to a node.
pub(super) fn binding(root: &At<'_, '_>, errors: &mut Errors) {
    let (kind, name) = (root.get("target.kind"), root.get("target.name"));
    if !matches!(kind.text(), "" | "Node") {
        errors.not_supported(&kind, &["Node", "<empty>"]);
    }
    if name.text().is_empty() {
        errors.required(&name, "");
    } else {
        errors.check(&name, names::dns_subdomain(name.text()));
    }
}

/// Checks a TokenRequest.
pub(super) fn token_request(root: &At<'_, '_>, errors: &mut Errors) {
    let expiration = root.get("spec.expirationSeconds");
    match expiration.number() {
        Some(seconds) if seconds < 600 => {
            errors.invalid(&expiration, "may not specify a duration less than 10 minutes");
        }
        Some(seconds) if seconds > 1 << 32 => {
            errors.invalid(&expiration, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
}

/// Checks a TokenReview.
pub(super) fn token_review(root: &At<'_, '_>, errors: &mut Errors) {
    if root.get("spec.token").text().is_empty() {
        errors.required(&root.get("spec.token"), "");
    }
}

/// Checks a SelfSubjectAccessReview.
pub(super) fn self_access_review(root: &At<'_, '_>, errors: &mut Errors) {
    attributes(&root.get("spec"), errors);
}

/// Checks a SubjectAccessReview, which also names whom it asks about.
pub(super) fn access_review(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    attributes(&spec, errors);
    if spec.get("user").text().is_empty() && spec.get("groups").is_empty() {
        errors.invalid(&spec.get("user"), "at least one of user or group must be specified");
    }
}

fn attributes(spec: &At<'_, '_>, errors: &mut Errors) {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    match (resource.is_set(), path.is_set()) {
        (true, true) => errors.invalid(&path, "cannot be specified in combination with resourceAttributes"),
        (false, false) => {
            errors.invalid(&resource, "exactly one of nonResourceAttributes or resourceAttributes must be specified")
        }
        (true, false) | (false, true) => {}
    }
}
