//! Removes pods that do not tolerate the NoExecute taints of their node.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::Resource as _;

use crate::manager::Context;
use crate::objects::{owners, pods};
use crate::runtime::events::Severity;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, Controller, Error, Index, ObjectKey, Outcome, WorkQueue};

/// Evicts pods, one node at a time.
#[derive(Debug)]
pub struct TaintEvictionController {
    cluster: Cluster,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("taint-eviction-controller");
    let own = queue.clone();
    cluster.nodes.on_change(move |change| {
        let taints = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| node.spec.clone()?.taints);
        if taints(&change.before) != taints(&change.after) {
            change.versions().take(1).for_each(|node| own.add(ObjectKey::of(&**node)));
        }
    });
    let (by_pod, nodes) = (queue.clone(), cluster.nodes.clone());
    cluster.pods.on_change(move |change| {
        let Some(node) = change.after.as_ref().and_then(|pod| pods::node_name(pod)) else { return };
        let moved = change.before.as_ref().and_then(|pod| pods::node_name(pod)) != Some(node);
        let key = ObjectKey::cluster(node);
        if moved && nodes.cache().get(&key).is_some_and(|node| no_execute(&node).next().is_some()) {
            by_pod.add(key);
        }
    });
    Arc::new(TaintEvictionController { cluster })
}

/// Whom to evict now, and when to look again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Pods that have no time left.
    pub evict: Vec<Arc<Pod>>,
    /// When the next pod's time is up.
    pub requeue_after: Option<Duration>,
}

/// Decides which pods of a node must go. A pod that tolerates a taint for a time goes when the shortest such time,
/// counted from the taint, is over.
pub fn plan(node: &Node, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for pod in pods.iter().filter(|pod| pods::is_active(pod)) {
        match time_left(node, pod, now) {
            None => {}
            Some(left) if left.is_zero() => plan.evict.push(pod.clone()),
            Some(left) => plan.requeue_after = Some(plan.requeue_after.map_or(left, |sooner| sooner.min(left))),
        }
    }
    plan
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).filter(|taint| taint.effect == "NoExecute")
}

/// Returns the time a pod has left on its node; `None` when it may stay for ever.
fn time_left(node: &Node, pod: &Pod, now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    no_execute(node).filter_map(|taint| time_under(taint, tolerations, now)).min()
}

fn time_under(taint: &Taint, tolerations: &[Toleration], now: Timestamp) -> Option<Duration> {
    let matching: Vec<&Toleration> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
    if matching.is_empty() || drover_api::mutants::active("C24-evicts-at-once") {
        return Some(Duration::ZERO);
    }
    let allowed = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    let left = since.as_second().saturating_add(allowed).saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect) && (key.is_empty() && exists || key == taint.key) && (exists || value)
}

#[async_trait::async_trait]
impl Controller for TaintEvictionController {
    fn name(&self) -> &'static str {
        "tainteviction"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.nodes.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.nodes.caught_up().await?;
        self.cluster.pods.caught_up().await?;
        let Some(node) = self.cluster.nodes.cache().get(key) else { return Ok(Outcome::DONE) };
        let pods = self.cluster.pods.cache().by_index(Index::Node, &key.name);
        let plan = plan(&node, &pods, self.cluster.environment.now());
        for pod in &plan.evict {
            let message = format!("Deleting pod: it does not tolerate the taints of node {key}");
            self.cluster.recorder.record(pod.object_ref(&()), Severity::Normal, "TaintManagerEviction", message);
            let options = DeleteOptions::uid(owners::uid(&pod.metadata));
            self.cluster.pods.delete(&ObjectKey::of(&**pod), &options).await?;
        }
        Ok(Outcome::after(plan.requeue_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(tolerations: &Value, elapsed: i64) -> (usize, Option<u64>) {
        let added: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": [
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": added.to_string()},
            {"key": "other", "effect": "NoSchedule"}]}}))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"nodeName": "n", "containers": [], "tolerations": tolerations}}))
        .unwrap();
        let plan = plan(&node, &[Arc::new(pod)], added + jiff::SignedDuration::from_secs(elapsed));
        (plan.evict.len(), plan.requeue_after.map(|left| left.as_secs()))
    }

    #[test]
    fn a_pod_that_does_not_tolerate_goes_at_once() {
        assert_eq!(check(&json!([]), 0), (1, None));
        assert_eq!(check(&json!([{"key": "else", "operator": "Exists"}]), 0), (1, None));
    }

    #[test]
    fn a_pod_that_tolerates_for_a_time_goes_when_it_is_over() {
        let five_minutes = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(check(&five_minutes, 100), (0, Some(200)));
        assert_eq!(check(&five_minutes, 300), (1, None));
    }

    #[test]
    fn a_pod_that_tolerates_everything_stays() {
        assert_eq!(check(&json!([{"operator": "Exists"}]), 100_000), (0, None));
    }
}
