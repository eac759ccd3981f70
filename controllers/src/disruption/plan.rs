//! Counts what a budget covers and what it can spare. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::deployment::share;
use crate::objects::{owners, pods, selector};
use crate::runtime::clock::whole_seconds;

/// A granted eviction that has not begun within this time will not, as in Kubernetes.
const GRANT_EXPIRY: SignedDuration = SignedDuration::from_secs(120);
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// What a budget is judged by.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Pods the budget selects.
    pub pods: Vec<Arc<Pod>>,
    /// How many pods there should be, by the uid of who decides that.
    pub scales: BTreeMap<String, i32>,
}

/// Whether a budget covers a pod.
pub(super) fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, pod.metadata.labels.as_ref()))
}

/// Builds a budget's status; also returns when a granted eviction runs out.
pub fn plan(
    budget: &PodDisruptionBudget,
    observed: &Observed,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let covered: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).filter(|pod| !pods::is_finished(pod)).collect();
    let (disrupted, requeue_after) = still_granted(&before, &covered, now);
    let healthy = covered.iter().filter(|pod| {
        pods::is_ready(pod)
            && !owners::is_terminating(&pod.metadata)
            && !disrupted.contains_key(owners::name(&pod.metadata))
    });
    let current = count(healthy.count());
    let (expected, desired) = demand(budget, &covered, &observed.scales);
    let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
    let status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        current_healthy: current,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: Some(conditions(budget, &before, allowed, now)),
    };
    (status, requeue_after)
}

/// Keeps the grants of pods that are still there and not yet going.
fn still_granted(
    before: &PodDisruptionBudgetStatus,
    covered: &[&Pod],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut granted = BTreeMap::new();
    let mut next: Option<Duration> = None;
    for (name, at) in before.disrupted_pods.iter().flatten() {
        let pod = covered.iter().find(|pod| owners::name(&pod.metadata) == name);
        let going = pod.is_none_or(|pod| owners::is_terminating(&pod.metadata));
        let left = GRANT_EXPIRY - now.duration_since(at.0);
        let forgets = drover_api::mutants::active("S09-grant-forgotten");
        if !going && left > SignedDuration::ZERO && !forgets {
            granted.insert(name.clone(), at.clone());
            let left = Duration::try_from(left).unwrap_or_default();
            next = Some(next.map_or(left, |sooner| sooner.min(left)));
        }
    }
    (granted, next)
}

/// Returns how many pods there should be and how many must stay healthy.
fn demand(budget: &PodDisruptionBudget, covered: &[&Pod], scales: &BTreeMap<String, i32>) -> (i32, i32) {
    let scale: i32 = scales.values().copied().fold(0, i32::saturating_add);
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(unavailable) = &spec.max_unavailable {
        return (scale, (scale - share(unavailable, scale, true)).max(0));
    }
    match &spec.min_available {
        Some(IntOrString::Int(least)) => (count(covered.len()), (*least).max(0)),
        Some(percent) => (scale, share(percent, scale, true)),
        None => (count(covered.len()), 1),
    }
}

fn conditions(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    allowed: i32,
    now: Timestamp,
) -> Vec<Condition> {
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let current = conditions.iter().find(|condition| condition.type_ == DISRUPTION_ALLOWED);
    let since = current.filter(|current| current.status == status).map(|current| current.last_transition_time.clone());
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
    };
    conditions.retain(|condition| condition.type_ != DISRUPTION_ALLOWED);
    conditions.push(condition);
    conditions
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn status(spec: &Value, ready: usize, unready: usize, scale: i32, before: &Value) -> PodDisruptionBudgetStatus {
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"metadata": {"name": "b", "generation": 4}, "spec": spec, "status": before}))
                .unwrap();
        let pod = |number: usize| {
            let state = if number < ready { "True" } else { "False" };
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": format!("p{number}")},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": state}]}}))
                .unwrap(),
            )
        };
        let observed =
            Observed { pods: (0..ready + unready).map(pod).collect(), scales: [("d".to_owned(), scale)].into() };
        plan(&budget, &observed, now()).0
    }

    fn allowed(spec: &Value, ready: usize, unready: usize, scale: i32) -> (i32, i32, i32) {
        let status = status(spec, ready, unready, scale, &Value::Null);
        (status.expected_pods, status.desired_healthy, status.disruptions_allowed)
    }

    #[test]
    fn the_three_forms_of_a_budget_count_as_in_kubernetes() {
        assert_eq!(allowed(&json!({"minAvailable": 2}), 3, 0, 3), (3, 2, 1));
        assert_eq!(allowed(&json!({"minAvailable": "50%"}), 3, 2, 5), (5, 3, 0));
        assert_eq!(allowed(&json!({"maxUnavailable": 1}), 3, 0, 3), (3, 2, 1));
        assert_eq!(allowed(&json!({"maxUnavailable": "30%"}), 10, 0, 10), (10, 7, 3));
        assert_eq!(allowed(&json!({"maxUnavailable": 1}), 2, 1, 3), (3, 2, 0));
    }

    #[test]
    fn a_budget_over_nothing_allows_nothing() {
        assert_eq!(allowed(&json!({"minAvailable": 0}), 0, 0, 0).2, 0);
    }

    #[test]
    fn a_granted_eviction_counts_as_gone_until_it_expires() {
        let at = |seconds: i64| {
            json!({"currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3, "disruptionsAllowed": 0,
            "disruptedPods": {"p0": (now() - SignedDuration::from_secs(seconds)).to_string()}})
        };
        assert_eq!(status(&json!({"minAvailable": 2}), 3, 0, 3, &at(10)).disruptions_allowed, 0);
        let expired = status(&json!({"minAvailable": 2}), 3, 0, 3, &at(121));
        assert_eq!((expired.disruptions_allowed, expired.disrupted_pods), (1, None));
    }

    #[test]
    fn a_status_that_is_right_is_not_written_again() {
        let first = status(&json!({"minAvailable": 2}), 3, 0, 3, &Value::Null);
        let again = status(&json!({"minAvailable": 2}), 3, 0, 3, &serde_json::to_value(&first).unwrap());
        assert_eq!(first, again);
    }
}
