//! Names and labels of containers: how one finds the pod of a container and the container of a pod.

use std::collections::BTreeMap;

use crate::ids::PodUid;

const CLUSTER: &str = "dev.drover.cluster";
const NODE: &str = "dev.drover.node";
const POD_UID: &str = "dev.drover.pod.uid";
const POD_NAME: &str = "dev.drover.pod.name";
const POD_NAMESPACE: &str = "dev.drover.pod.namespace";
const CONTAINER: &str = "dev.drover.container";
const ATTEMPT: &str = "dev.drover.attempt";
const HASH: &str = "dev.drover.hash";
const SEAL: &str = "dev.drover.seal";

/// The cluster and node that a container belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
}

impl Owner {
    /// The labels by which this agent lists its containers.
    pub fn filter(&self) -> Vec<(String, String)> {
        vec![(CLUSTER.to_owned(), self.cluster.clone()), (NODE.to_owned(), self.node.clone())]
    }
}

/// Which container of which pod an engine container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerIdentity {
    /// Cluster and node.
    pub owner: Owner,
    /// The pod's uid.
    pub pod: PodUid,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The container's name.
    pub container: String,
    /// 0 for the first.
    pub attempt: u32,
    /// The hash of what a change of which restarts the container.
    pub hash: String,
    /// The ledger's seal on the container's name.
    pub seal: String,
}

impl ContainerIdentity {
    /// The container's name, the same for the same attempt.
    pub fn name(&self) -> String {
        container_name(&self.container, &self.pod_name, &self.namespace, &self.pod, self.attempt)
    }

    /// The container's labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let attempt = self.attempt.to_string();
        let pairs = [
            (CLUSTER, self.owner.cluster.as_str()),
            (NODE, &self.owner.node),
            (POD_UID, self.pod.as_str()),
            (POD_NAME, &self.pod_name),
            (POD_NAMESPACE, &self.namespace),
            (CONTAINER, &self.container),
            (ATTEMPT, &attempt),
            (HASH, &self.hash),
            (SEAL, &self.seal),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// The name of an attempt.
pub fn container_name(container: &str, pod_name: &str, namespace: &str, pod: &PodUid, attempt: u32) -> String {
    if drover_api::mutants::active("N03-random-name") {
        return format!("drover_{container}_{pod_name}_{namespace}_{pod}_{attempt}_{}", rand::random::<u32>());
    }
    format!("drover_{container}_{pod_name}_{namespace}_{pod}_{attempt}")
}

/// Reads the identity back from labels; `None` unless all are there. Labels prove nothing: ask the ledger.
pub fn identity_of(labels: &BTreeMap<String, String>) -> Option<ContainerIdentity> {
    let get = |key: &str| labels.get(key).cloned();
    Some(ContainerIdentity {
        owner: Owner { cluster: get(CLUSTER)?, node: get(NODE)? },
        pod: PodUid::new(labels.get(POD_UID)?)?,
        namespace: get(POD_NAMESPACE)?,
        pod_name: get(POD_NAME)?,
        container: get(CONTAINER)?,
        attempt: labels.get(ATTEMPT)?.parse().ok()?,
        hash: get(HASH)?,
        seal: get(SEAL)?,
    })
}
