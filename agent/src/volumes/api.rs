//! What volumes read from the API and write back.

use std::fmt;

use async_trait::async_trait;
use drover_api::restored::Unconfirmed;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec, TokenRequestStatus},
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, source::Informer};

/// The API as far as volumes need it.
#[async_trait]
pub trait VolumeApi: Send + Sync + fmt::Debug {
    /// Watches one ConfigMap until the token is cancelled.
    fn watch_config_map(&self, namespace: &str, name: &str, end: CancellationToken) -> Informer<ConfigMap>;

    /// Watches one Secret until the token is cancelled.
    fn watch_secret(&self, namespace: &str, name: &str, end: CancellationToken) -> Informer<Secret>;

    /// Watches all volumes until the token is cancelled.
    fn watch_volumes(&self, end: CancellationToken) -> Informer<PersistentVolume>;

    /// Asks for a token of a service account.
    async fn token(
        &self,
        namespace: &str,
        account: &str,
        spec: TokenRequestSpec,
    ) -> Result<TokenRequestStatus, ApiFailure>;

    /// Reads a claim; `None` when there is none.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<PersistentVolumeClaim>, ApiFailure>;

    /// Reads a volume; `None` when there is none.
    async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, ApiFailure>;

    /// Sets an annotation of a volume that is still as it was read.
    async fn annotate(&self, volume: &PersistentVolume, key: &str, value: &str) -> Result<(), ApiFailure>;

    /// Replaces the finalizers of a volume that is still as it was read.
    async fn set_finalizers(&self, volume: &PersistentVolume, finalizers: &[String]) -> Result<(), ApiFailure>;

    /// Reads, past every cache, the restore that nobody has confirmed yet; until then no data is removed.
    async fn unconfirmed_restore(&self) -> Result<Option<Unconfirmed>, ApiFailure> {
        Ok(None)
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiFailure {
    /// The object has changed or gone since it was read.
    #[error("the object has changed since it was read")]
    Changed,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// [`VolumeApi`] over the Kubernetes API.
#[derive(Clone)]
pub struct KubeVolumeApi {
    client: Client,
    chance: Chance,
}

impl KubeVolumeApi {
    /// Works through `client`, whose identity is the node's.
    pub fn new(client: Client, chance: Chance) -> Self {
        Self { client, chance }
    }

    fn watch_one<K>(&self, namespace: &str, name: &str, end: CancellationToken) -> Informer<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Default,
    {
        let api = Api::namespaced(self.client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Informer::spawn(api, config, self.chance.clone(), end).0
    }

    async fn patch_volume(&self, volume: &PersistentVolume, metadata: serde_json::Value) -> Result<(), ApiFailure> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let mut metadata = metadata;
        metadata["uid"] = json!(volume.metadata.uid);
        metadata["resourceVersion"] = json!(volume.metadata.resource_version);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let patched = api.patch(&volume.name_any(), &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| classify(&error))
    }
}

impl fmt::Debug for KubeVolumeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KubeVolumeApi")
    }
}

#[async_trait]
impl VolumeApi for KubeVolumeApi {
    fn watch_config_map(&self, namespace: &str, name: &str, end: CancellationToken) -> Informer<ConfigMap> {
        self.watch_one(namespace, name, end)
    }

    fn watch_secret(&self, namespace: &str, name: &str, end: CancellationToken) -> Informer<Secret> {
        self.watch_one(namespace, name, end)
    }

    fn watch_volumes(&self, end: CancellationToken) -> Informer<PersistentVolume> {
        Informer::spawn(Api::all(self.client.clone()), watcher::Config::default(), self.chance.clone(), end).0
    }

    async fn token(
        &self,
        namespace: &str,
        account: &str,
        spec: TokenRequestSpec,
    ) -> Result<TokenRequestStatus, ApiFailure> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest { spec, ..Default::default() };
        let answer = api.create_token_request(account, &PostParams::default(), &request).await;
        let answer = answer.map_err(|error| classify(&error))?;
        answer.status.ok_or_else(|| ApiFailure::Failed("the server's answer holds no token".to_owned()))
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<PersistentVolumeClaim>, ApiFailure> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|error| classify(&error))
    }

    async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, ApiFailure> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        api.get_opt(name).await.map_err(|error| classify(&error))
    }

    async fn annotate(&self, volume: &PersistentVolume, key: &str, value: &str) -> Result<(), ApiFailure> {
        self.patch_volume(volume, json!({ "annotations": { key: value } })).await
    }

    async fn set_finalizers(&self, volume: &PersistentVolume, finalizers: &[String]) -> Result<(), ApiFailure> {
        self.patch_volume(volume, json!({ "finalizers": finalizers })).await
    }

    async fn unconfirmed_restore(&self) -> Result<Option<Unconfirmed>, ApiFailure> {
        let state = crate::source::unconfirmed_restore(&self.client).await;
        state.map_err(|error| ApiFailure::Failed(error.to_string()))
    }
}

fn classify(error: &kube::Error) -> ApiFailure {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => ApiFailure::Changed,
        kube::Error::Api(status) => ApiFailure::Failed(status.message.clone()),
        other => ApiFailure::Failed(other.to_string()),
    }
}
