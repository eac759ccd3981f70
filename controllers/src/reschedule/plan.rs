//! The decision: pure.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

use crate::objects::{owners, pods};

/// On a pod that takes another's place: the uid of that one, and the name that the first of them had.
const REPLACES: &str = "drover.dev/replaces";
const FIRST_NAME: &str = "drover.dev/first-name";
/// Longest start of a name: the suffix has room behind it.
const START_LENGTH_MAX: usize = 240;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make this pod.
    Create(Box<Pod>),
    /// Delete the one of the dead host.
    Delete,
}

/// The name of what takes the pod's place; `None` where nothing is to. Made of its uid, so that it is made once only.
pub(super) fn name_of_replacement(pod: &Pod) -> Option<String> {
    let wanted = pods::is_host_down(pod)
        && pods::is_active(pod)
        && owners::controller_of(&pod.metadata).is_none()
        && pods::swarm_rules(pod).is_ok_and(|rules| rules.on_node_failure);
    let digest = Sha256::digest(owners::uid(&pod.metadata));
    let suffix: String = digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let first = first_name(pod);
    let start = first.get(..START_LENGTH_MAX).unwrap_or(first);
    wanted.then(|| format!("{start}-{suffix}"))
}

/// Plans for a pod; `there` is the pod that has the name of its replacement.
pub fn plan(pod: &Pod, there: Option<&Pod>) -> Option<Step> {
    let name = name_of_replacement(pod)?;
    let uid = owners::uid(&pod.metadata);
    let annotation = |pod: &Pod, key: &str| pod.metadata.annotations.as_ref()?.get(key).cloned();
    match there {
        Some(there) if annotation(there, REPLACES).as_deref() == Some(uid) => return Some(Step::Delete),
        // Somebody else's pod has the name: the user must look.
        Some(_) => return None,
        None => {}
    }
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(REPLACES.to_owned(), uid.to_owned());
    annotations.insert(FIRST_NAME.to_owned(), first_name(pod).to_owned());
    let mut spec = pod.spec.clone()?;
    spec.node_name = None;
    // The application sees the name that it had.
    spec.hostname.get_or_insert_with(|| first_name(pod).to_owned());
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: pod.metadata.namespace.clone(),
        labels: pod.metadata.labels.clone(),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    Some(Step::Create(Box::new(Pod { metadata, spec: Some(spec), status: None })))
}

fn first_name(pod: &Pod) -> &str {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(FIRST_NAME))
        .map_or_else(|| owners::name(&pod.metadata), String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const POLICY: &str = "com.docker.swarm.reschedule-policies";

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "db", "namespace": "n", "uid": "u1", "labels": {"app": "db"},
                "annotations": {POLICY: "[\"on-node-failure\"]"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "db"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "HostDown"}]},
        });
        change(&mut pod);
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_pod_of_a_dead_host_is_made_anew_and_then_deleted() {
        let Some(Step::Create(fresh)) = plan(&pod(|_| {}), None) else { panic!("it is to be made") };
        let spec = fresh.spec.clone().expect("it has one");
        assert_eq!((spec.node_name, spec.hostname.as_deref()), (None, Some("db")));
        let name = fresh.metadata.name.clone().expect("it has one");
        assert!(name.starts_with("db-") && fresh.metadata.labels.is_some() && fresh.status.is_none());
        assert_eq!(plan(&pod(|_| {}), Some(&fresh)), Some(Step::Delete));
        assert_eq!(plan(&pod(|_| {}), Some(&pod(|_| {}))), None, "the name is another's");
        // What took its place may lose its host, too.
        let again =
            Pod { metadata: ObjectMeta { uid: Some("u2".to_owned()), ..fresh.metadata.clone() }, ..pod(|_| {}) };
        let Some(Step::Create(third)) = plan(&again, None) else { panic!("it is to be made") };
        let third = third.metadata.name.expect("it has one");
        assert!(third.starts_with("db-") && third.len() == name.len() && third != name, "{third}");
    }

    #[test]
    fn other_pods_stay() {
        type Change = fn(&mut Value);
        let stays: [(&str, Change); 6] = [
            ("no policy", |pod| pod["metadata"]["annotations"] = json!({})),
            ("off", |pod| pod["metadata"]["annotations"] = json!({POLICY: "[\"off\"]"})),
            ("its host is there", |pod| pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}])),
            ("it is being deleted", |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()),
            ("it has ended", |pod| pod["status"]["phase"] = "Succeeded".into()),
            ("somebody replaces it", |pod| {
                pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                    "uid": "r", "controller": true}]);
            }),
        ];
        for (why, change) in stays {
            assert_eq!(plan(&pod(change), None), None, "{why}");
        }
    }
}
