//! Requests, limits and other maps of amounts.

use serde_json::Value;

use super::{cursor::At, report::Errors};
use crate::{names, quantity::Quantity};

const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// An exbibyte: more than any host or volume has, and sums of thousands of them still are numbers.
const AMOUNT_MAX: i64 = 1 << 60;

/// Checks a container's `resources`.
pub(super) fn requirements(resources: &At<'_, '_>, errors: &mut Errors) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    container_amounts(&limits, errors);
    container_amounts(&requests, errors);
    for (name, request) in requests.entries() {
        let limit = limits.key(name);
        let (Ok(wanted), Ok(most)) = (Quantity::from_value(request.value()), Quantity::from_value(limit.value()))
        else {
            if !overcommits(name) && !limit.is_set() {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        let shown = Value::from(wanted.to_string());
        if wanted != most && !overcommits(name) {
            errors.invalid_value(&requests, &shown, &format!("must be equal to {name} limit of {most}"));
        } else if wanted > most {
            errors.invalid_value(&requests, &shown, &format!("must be less than or equal to {name} limit of {most}"));
        }
    }
}

/// Checks a map of amounts: names and numbers that are not negative.
pub(super) fn amounts(map: &At<'_, '_>, errors: &mut Errors) {
    for (name, amount) in map.entries() {
        errors.check_text(&amount, name, names::qualified_name(name));
        non_negative(&amount, errors);
    }
}

/// Checks what somebody says there is: an amount beyond any would swallow every sum it goes into.
pub(super) fn bounded(amount: &At<'_, '_>, errors: &mut Errors) {
    if Quantity::from_value(amount.value()).is_ok_and(|quantity| quantity > Quantity::from_bytes(AMOUNT_MAX)) {
        errors.invalid(amount, &format!("must be less than or equal to {AMOUNT_MAX}"));
    }
}

/// Reads an amount, reporting what is none.
pub(super) fn quantity(amount: &At<'_, '_>, errors: &mut Errors) -> Option<Quantity> {
    match Quantity::from_value(amount.value()) {
        Ok(quantity) => Some(quantity),
        Err(error) => {
            errors.invalid(amount, &error.to_string());
            None
        }
    }
}

fn container_amounts(map: &At<'_, '_>, errors: &mut Errors) {
    for (name, amount) in map.entries() {
        let messages = names::qualified_name(name);
        let well_formed = messages.is_empty();
        errors.check_text(&amount, name, messages);
        if well_formed && !name.contains('/') && !CONTAINER_RESOURCES.contains(&name) && !name.starts_with("hugepages-")
        {
            let named = Value::from(name);
            errors.invalid_value(&amount, &named, "must be a standard resource type or fully qualified");
            errors.invalid_value(&amount, &named, "must be a standard resource for containers");
        }
        let quantity = non_negative(&amount, errors);
        if name.contains('/') && quantity.is_some_and(|quantity| !quantity.is_whole()) {
            errors.invalid(&amount, "must be an integer");
        }
    }
}

fn non_negative(amount: &At<'_, '_>, errors: &mut Errors) -> Option<Quantity> {
    let quantity = quantity(amount, errors)?;
    if quantity.is_negative() {
        errors.invalid(amount, "must be greater than or equal to 0");
    }
    Some(quantity)
}

/// Whether more may be limited than is requested: true of what Kubernetes itself shares out.
fn overcommits(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    native && !name.starts_with("hugepages-")
}
