//! PodDisruptionBudgets, PriorityClasses and Leases.

use super::{
    cursor::At,
    report::Errors,
    selector,
    workload::{at_most_100_percent, count_or_percent},
};

/// Highest priority that users may give: a thousand million, above which the system's own classes lie.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Checks a PodDisruptionBudget.
pub(super) fn disruption_budget(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    let (available, unavailable) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        errors.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for amount in [&available, &unavailable] {
        count_or_percent(amount, errors);
        at_most_100_percent(amount, errors);
    }
    selector::label_selector(&spec.get("selector"), errors);
    let policy = spec.get("unhealthyPodEvictionPolicy");
    if policy.is_set() && !matches!(policy.text(), "AlwaysAllow" | "IfHealthyBudget") {
        errors.not_supported(&policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}

/// Checks the status of a PodDisruptionBudget.
pub(super) fn disruption_budget_status(root: &At<'_, '_>, errors: &mut Errors) {
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        errors.non_negative(&root.get("status").get(field));
    }
}

/// Checks a PriorityClass.
pub(super) fn priority_class(root: &At<'_, '_>, errors: &mut Errors) {
    let (name, value) = (root.get("metadata.name"), root.get("value"));
    let number = value.number().unwrap_or(0);
    if name.text().starts_with(SYSTEM_PREFIX) {
        let known = SYSTEM_CLASSES.contains(&(name.text(), number)) && !root.get("globalDefault").is_true();
        if !known {
            let detail = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {} is not \
                 a known system priority class",
                name.text()
            );
            errors.forbidden(&name, &detail);
        }
    } else if number > USER_PRIORITY_MAX {
        errors.forbidden(&value, &format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"));
    }
    errors.one_of(&root.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
}

/// Checks what may not change in a PriorityClass.
pub(super) fn priority_class_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    if root.get("value").number().unwrap_or(0) != old.get("value").number().unwrap_or(0) {
        errors.forbidden(&root.get("value"), "may not be changed in an update.");
    }
    errors.immutable(&root.get("preemptionPolicy"), &old.get("preemptionPolicy"));
}

/// Checks a Lease.
pub(super) fn lease(root: &At<'_, '_>, errors: &mut Errors) {
    let (duration, transitions) = (root.get("spec.leaseDurationSeconds"), root.get("spec.leaseTransitions"));
    if duration.number().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&duration, "must be greater than 0");
    }
    if transitions.number().is_some_and(|count| count < 0) {
        errors.invalid(&transitions, "must be greater than or equal to 0");
    }
    let holder = root.get("spec.holderIdentity");
    if holder.is_set() && holder.text().is_empty() {
        errors.required(&holder, "must not be empty");
    }
}
