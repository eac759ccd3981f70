//! `pods/eviction`: a delete that asks the disruption budgets first, in one transaction with them.

use std::sync::Arc;

use drover_api::{
    kinds::{self, Kind},
    labels::LabelSelector,
    object::{at, str_at},
    status::ApiError,
};
use drover_store::{Compare, Operation};
use serde_json::{Value, json};

use super::{
    DeleteOptions, Registry, WriteOptions,
    binding::pods,
    format_time, keys,
    write::{TRIES, Target, broken, unversioned},
};
use crate::{admission::Effects, cache::Object};

/// Pods that a budget may count as going; Kubernetes' bound.
const DISRUPTED_MAX: usize = 2000;

impl Registry {
    /// Evicts a pod: deletes it if its disruption budget allows.
    ///
    /// # Errors
    /// 404, 429 when the budget does not allow it, 500 when several budgets select the pod, 409, or the store's error.
    pub async fn evict(
        &self,
        (namespace, name): (&str, &str),
        deletion: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        let kind = pods()?;
        let target = Target { kind, namespace, name };
        let _charging = self.evictions.lock().await;
        for _ in 0..TRIES {
            self.refresh_admission().await?;
            let pod = self.current(target, true).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
            let effects = self.charge_budget(&pod)?;
            if self.delete_with(target, &pod, (deletion, effects), options).await?.is_some() {
                return Ok(());
            }
        }
        Err(super::strategy::stale(kind, name))
    }

    /// Takes one disruption from the budget of the pod, if it has one.
    fn charge_budget(&self, pod: &Arc<Object>) -> Result<Effects, ApiError> {
        let mut effects = Effects::default();
        let value = pod.to_value();
        let Some(kind) = kinds::by_resource("policy", "v1", "poddisruptionbudgets") else { return Ok(effects) };
        if goes_anyway(&value) || drover_api::mutants::active("S09-budget-ignored") {
            return Ok(effects);
        }
        let budgets = self.budgets_of(kind, pod);
        let budget = match budgets.as_slice() {
            [] => return Ok(effects),
            [budget] => budget,
            [..] => {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let now = format_time(self.environment().now());
        let key = keys::key(kind, budget.namespace(), budget.name());
        effects.compares.push(Compare { key: key.clone().into(), mod_revision: budget.revision });
        if let Some(charged) = plan_charge(&budget.to_value(), &value, &now)? {
            let (_, stored) = Object::encode(kind, 0, &unversioned(charged)).map_err(|error| broken(&error))?;
            effects.operations.push(Operation::Put { key: key.into(), value: stored });
        }
        Ok(effects)
    }

    fn budgets_of(&self, kind: &'static Kind, pod: &Object) -> Vec<Arc<Object>> {
        let prefix = format!("{}/", pod.namespace());
        let snapshot = self.snapshot(kind);
        crate::cache::range(&snapshot.objects, &prefix, "")
            .map(|(_, budget)| budget)
            .filter(|budget| {
                let value = budget.to_value();
                let selector =
                    at(&value, &["spec", "selector"]).and_then(|found| LabelSelector::from_object(found).ok());
                // Without a selector a budget selects nothing; an empty one selects every pod.
                selector.is_some_and(|selector| selector.matches(pod.labels()))
            })
            .cloned()
            .collect()
    }
}

/// Whether the pod serves nobody any more, so that no budget is asked.
fn goes_anyway(pod: &Value) -> bool {
    let phase = str_at(pod, &["status", "phase"]);
    matches!(phase, "Succeeded" | "Failed" | "Pending") || at(pod, &["metadata", "deletionTimestamp"]).is_some()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = at(pod, &["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|found| found["type"] == "Ready" && found["status"] == "True")
}

/// Decides whether the budget lets the pod go, and what it looks like afterwards (`None`: it is not charged).
fn plan_charge(budget: &Value, pod: &Value, now: &str) -> Result<Option<Value>, ApiError> {
    let number = |path: &[&str]| at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let (healthy, desired) = (number(&["status", "currentHealthy"]), number(&["status", "desiredHealthy"]));
    if !is_ready(pod) {
        let always = str_at(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Ok(None);
        }
    }
    let name = str_at(budget, &["metadata", "name"]);
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return Err(refused(
            &format!("The disruption budget {name} is still being processed by the server."),
            Some(10),
        ));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed <= 0 {
        let why = format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(refused(&why, None));
    }
    let going = at(budget, &["status", "disruptedPods"]).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if going >= DISRUPTED_MAX {
        return Err(refused(&format!("The disruption budget {name} has too many disrupted pods already"), None));
    }
    let mut charged = budget.clone();
    charged["status"]["disruptionsAllowed"] = (allowed - 1).into();
    charged["status"]["disruptedPods"][str_at(pod, &["metadata", "name"])] = now.into();
    Ok(Some(charged))
}

/// 429 with the cause that `kubectl drain` waits on.
fn refused(why: &str, retry_after_secs: Option<u64>) -> ApiError {
    const MESSAGE: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut error = ApiError::new(429, "TooManyRequests", MESSAGE);
    error.details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
    if let Some(secs) = retry_after_secs {
        error.details["retryAfterSeconds"] = secs.into();
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}})
    }

    fn budget(allowed: i64, healthy: i64, policy: &str) -> Value {
        json!({
            "metadata": {"name": "b", "generation": 2},
            "spec": {"unhealthyPodEvictionPolicy": policy},
            "status": {"observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2},
        })
    }

    fn told(budget: &Value, pod: &Value) -> String {
        match plan_charge(budget, pod, "now") {
            Ok(None) => "free".to_owned(),
            Ok(Some(charged)) => {
                format!("{} {}", charged["status"]["disruptionsAllowed"], charged["status"]["disruptedPods"])
            }
            Err(error) => format!("{} {}", error.code, error.details["causes"][0]["message"]),
        }
    }

    #[test]
    fn a_budget_is_charged_refuses_or_does_not_care() {
        assert_eq!(told(&budget(1, 3, ""), &pod(true)), r#"0 {"p":"now"}"#);
        let short = "429 \"The disruption budget b needs 2 healthy pods and has 2 currently\"";
        assert_eq!(told(&budget(0, 2, ""), &pod(true)), short);
        assert_eq!(told(&budget(0, 2, ""), &pod(false)), "free", "an unready pod of a healthy set");
        assert_eq!(told(&budget(0, 1, "AlwaysAllow"), &pod(false)), "free");
        let unhealthy = "429 \"The disruption budget b needs 2 healthy pods and has 1 currently\"";
        assert_eq!(told(&budget(0, 1, ""), &pod(false)), unhealthy);
        let mut changed = budget(1, 3, "");
        changed["metadata"]["generation"] = 3.into();
        assert_eq!(
            told(&changed, &pod(true)),
            "429 \"The disruption budget b is still being processed by the server.\""
        );
    }
}
