//! What the agent writes about its pods, and the pull secrets it reads for them.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use drover_api::restored::Unconfirmed;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, PodStatus, Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};

use super::revision_of;

/// The writes to one pod object.
#[async_trait]
pub trait PodApi: Send + Sync + fmt::Debug {
    /// Replaces our part of a pod's status, if the pod still has this uid; returns the revision that has it.
    async fn patch_status(&self, pod: &Pod, status: &PodStatus) -> Result<u64, PodApiError>;

    /// Deletes the pod object at once, if it still has this uid.
    async fn delete(&self, pod: &Pod) -> Result<(), PodApiError>;

    /// Reads a secret of the pod's namespace.
    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, ByteString>, PodApiError>;

    /// Reads, past every cache, the restore that nobody has confirmed yet; until then pods that the API does not have
    /// are kept. An API that knows no restores has none.
    async fn unconfirmed_restore(&self) -> Result<Option<Unconfirmed>, PodApiError> {
        Ok(None)
    }
}

/// Why a write failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodApiError {
    /// The pod is gone or is another one by now: nothing is left to write.
    #[error("the pod object is gone")]
    Gone,
    /// Worth another try.
    #[error("{0}")]
    Failed(String),
}

/// [`PodApi`] over the Kubernetes API.
#[derive(Clone)]
pub struct KubePodApi {
    client: Client,
}

impl KubePodApi {
    /// Writes through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"))
    }
}

impl fmt::Debug for KubePodApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KubePodApi")
    }
}

#[async_trait]
impl PodApi for KubePodApi {
    async fn patch_status(&self, pod: &Pod, status: &PodStatus) -> Result<u64, PodApiError> {
        // Strategic, so that conditions of other writers (readiness gates) stay; the uid makes it a precondition.
        let patch = serde_json::json!({ "metadata": { "uid": pod.metadata.uid }, "status": with_nulls(status) });
        let params = PatchParams::default();
        self.pods(pod)
            .patch_status(&pod.name_any(), &params, &Patch::Strategic(patch))
            .await
            .map(|pod| revision_of(&pod))
            .map_err(classify)
    }

    async fn delete(&self, pod: &Pod) -> Result<(), PodApiError> {
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params =
            DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
        match self.pods(pod).delete(&pod.name_any(), &params).await.map(drop).map_err(classify) {
            Err(PodApiError::Gone) => Ok(()),
            other => other,
        }
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, ByteString>, PodApiError> {
        let secret: Secret = Api::namespaced(self.client.clone(), namespace).get(name).await.map_err(classify)?;
        Ok(secret.data.unwrap_or_default())
    }

    async fn unconfirmed_restore(&self) -> Result<Option<Unconfirmed>, PodApiError> {
        super::unconfirmed_restore(&self.client).await.map_err(classify)
    }
}

/// A strategic patch keeps what it does not name: fields that went away are named with null.
fn with_nulls(status: &PodStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        // Addresses are merged by their value: those of an earlier sandbox would stay.
        for field in ["podIPs", "hostIPs"] {
            if let Some(list) = map.get_mut(field).and_then(serde_json::Value::as_array_mut) {
                list.push(serde_json::json!({"$patch": "replace"}));
            }
        }
        for field in ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "containerStatuses"] {
            map.entry(field).or_insert(serde_json::Value::Null);
        }
    }
    // Conditions are merged by type, each with what it said before.
    let conditions = value.get_mut("conditions").and_then(serde_json::Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        for field in ["reason", "message"] {
            condition.entry(field).or_insert(serde_json::Value::Null);
        }
    }
    value
}

fn classify(error: kube::Error) -> PodApiError {
    match error {
        kube::Error::Api(status) if status.code == 404 => PodApiError::Gone,
        // The uid precondition fails with 409; so does nothing else that we send.
        kube::Error::Api(status) if status.code == 409 => PodApiError::Gone,
        kube::Error::Api(status) => PodApiError::Failed(status.message.clone()),
        other => PodApiError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_an_earlier_sandbox_do_not_stay() {
        let status: PodStatus = serde_json::from_value(serde_json::json!({"podIPs": [{"ip": "10.128.0.3"}]})).unwrap();
        let patch = with_nulls(&status);
        assert_eq!(patch["podIPs"], serde_json::json!([{"ip": "10.128.0.3"}, {"$patch": "replace"}]));
    }

    #[test]
    fn a_condition_that_turned_true_takes_back_its_reason_and_message() {
        let status: PodStatus =
            serde_json::from_value(serde_json::json!({"conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
        let patch = with_nulls(&status);
        assert_eq!(
            patch["conditions"],
            serde_json::json!([{"type": "Ready", "status": "True", "reason": null, "message": null}])
        );
    }
}
