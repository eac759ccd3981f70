//! Removes pods that nobody else will: those of nodes that no longer exist, and the oldest of too many that have ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_api::restored::{Deletion, HELD_REASON};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;

use crate::manager::Context;
use crate::objects::{owners, pods};
use crate::runtime::events::Severity;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, WorkQueue};

/// Ended pods kept in the whole cluster.
const FINISHED_MAX: usize = 1000;
/// A node must have been gone this long: one that is deleted and made anew keeps its pods.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How often all pods are looked at.
const PERIOD: Duration = Duration::from_secs(20);

/// Collects pods. One pass sees them all.
#[derive(Debug)]
pub struct PodGcController {
    cluster: Cluster,
    /// Since when nodes that pods are bound to have been missing.
    missing: Mutex<std::collections::BTreeMap<String, Timestamp>>,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let own = queue.clone();
    context.cluster.nodes.on_change(move |change| {
        if change.after.is_none() {
            own.add(key());
        }
    });
    Arc::new(PodGcController { cluster: context.cluster.clone(), missing: Mutex::default() })
}

fn key() -> ObjectKey {
    ObjectKey::cluster("pods")
}

/// What to remove, and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Pods whose node is gone: nobody can end them any more, so they are removed at once.
    pub stranded: Vec<Arc<Pod>>,
    /// The oldest ended pods beyond the limit.
    pub finished: Vec<Arc<Pod>>,
}

/// Decides which pods to remove. `gone` are the names of nodes known to be gone for good.
pub fn plan(all: &[Arc<Pod>], gone: &BTreeSet<String>) -> Plan {
    let stranded = |pod: &&Arc<Pod>| pods::node_name(pod).is_some_and(|node| gone.contains(node));
    let mut finished: Vec<Arc<Pod>> =
        all.iter().filter(|pod| pods::is_finished(pod) && !owners::is_terminating(&pod.metadata)).cloned().collect();
    finished.sort_by_key(|pod| (pods::created_at(pod), owners::uid(&pod.metadata).to_owned()));
    finished.truncate(finished.len().saturating_sub(FINISHED_MAX));
    Plan { stranded: all.iter().filter(stranded).cloned().collect(), finished }
}

#[async_trait::async_trait]
impl Controller for PodGcController {
    fn name(&self) -> &'static str {
        "podgc"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        vec![key()]
    }

    async fn reconcile(&self, _key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.pods.caught_up().await?;
        let all = self.cluster.pods.cache().all();
        let gone = self.confirm_gone(&all).await?;
        let plan = plan(&all, &gone);
        let held = match plan.stranded.is_empty() {
            true => None,
            false => self.cluster.held_back(Deletion::StrandedPod).await?,
        };
        for pod in &plan.stranded {
            if let Some(reason) = &held {
                let about = pod.object_ref(&());
                self.cluster.recorder.record(about, Severity::Warning, HELD_REASON, reason.as_str());
                continue;
            }
            let options =
                DeleteOptions { grace_period_secs: Some(0), ..DeleteOptions::uid(owners::uid(&pod.metadata)) };
            tracing::info!(pod.name = %owners::name(&pod.metadata), "removing pod of a node that no longer exists");
            self.cluster.pods.delete(&ObjectKey::of(&**pod), &options).await?;
        }
        for pod in &plan.finished {
            let options = DeleteOptions::uid(owners::uid(&pod.metadata));
            self.cluster.pods.delete(&ObjectKey::of(&**pod), &options).await?;
        }
        Ok(Outcome::after(Some(PERIOD)))
    }
}

impl PodGcController {
    /// Returns the nodes that have been missing for long enough and that the server does not know either.
    async fn confirm_gone(&self, all: &[Arc<Pod>]) -> Result<BTreeSet<String>, Error> {
        let now = self.cluster.environment.now();
        let nodes = self.cluster.nodes.cache();
        let bound: BTreeSet<&str> = all.iter().filter_map(|pod| pods::node_name(pod)).collect();
        let absent: BTreeSet<String> = bound
            .into_iter()
            .filter(|node| nodes.get(&ObjectKey::cluster(*node)).is_none())
            .map(ToOwned::to_owned)
            .collect();
        let due: Vec<String> = {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            missing.retain(|node, _| absent.contains(node));
            for node in absent {
                missing.entry(node).or_insert(now);
            }
            let waited = |since: &Timestamp| Duration::try_from(now.duration_since(*since)).unwrap_or_default();
            missing.iter().filter(|(_, since)| waited(since) >= QUARANTINE).map(|(node, _)| node.clone()).collect()
        };
        let mut gone = BTreeSet::new();
        for node in due {
            if self.cluster.nodes.get_fresh(&ObjectKey::cluster(node.clone())).await?.is_none() {
                gone.insert(node);
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(number: usize, node: &str, phase: &str) -> Arc<Pod> {
        let created = Timestamp::from_second(1_700_000_000 + i64::try_from(number).unwrap()).unwrap();
        Arc::new(serde_json::from_value(json!({"metadata": {"name": format!("p{number}"), "uid": format!("u{number}"),
            "creationTimestamp": created.to_string()}, "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
        .unwrap())
    }

    #[test]
    fn only_pods_of_nodes_that_are_gone_are_stranded() {
        let all = [pod(1, "gone", "Running"), pod(2, "here", "Running"), pod(3, "", "Pending")];
        let plan = plan(&all, &BTreeSet::from(["gone".to_owned()]));
        assert_eq!(plan.stranded, [all[0].clone()]);
        assert!(plan.finished.is_empty());
    }

    #[test]
    fn of_too_many_ended_pods_the_oldest_go() {
        let mut all: Vec<_> = (0..FINISHED_MAX + 2).map(|number| pod(number, "here", "Failed")).collect();
        all.reverse();
        let names: Vec<_> =
            plan(&all, &BTreeSet::new()).finished.iter().map(|pod| owners::name(&pod.metadata).to_owned()).collect();
        assert_eq!(names, ["p0", "p1"]);
    }
}
