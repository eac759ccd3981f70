//! The whole API as controllers see it: one shared cache for each kind they read, and the recorder.

use std::sync::{Arc, Mutex, PoisonError};

use drover_api::restored::{self, Deletion, STATE_PATH, Unconfirmed};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::sync::watch::{self, Receiver};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cache::{Index, owner_uids};
use super::clock::Environment;
use super::error::{Error, Result};
use super::events::Recorder;
use super::key::ObjectKey;
use super::resource::{Object, Resource};

/// The name of the ConfigMap that carries the cluster's CA into every namespace.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";

/// Caches and requests for every kind that controllers read.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the plural of the kind it holds")]
pub struct Cluster {
    /// The connection, for what has no cache.
    pub client: kube::Client,
    /// Time and jitter.
    pub environment: Environment,
    /// Where events go.
    pub recorder: Recorder,
    pub namespaces: Resource<Namespace>,
    pub nodes: Resource<Node>,
    pub leases: Resource<Lease>,
    pub pods: Resource<Pod>,
    pub replica_sets: Resource<ReplicaSet>,
    pub deployments: Resource<Deployment>,
    pub services: Resource<Service>,
    pub endpoints: Resource<Endpoints>,
    pub endpoint_slices: Resource<EndpointSlice>,
    pub service_accounts: Resource<ServiceAccount>,
    /// Only those named `kube-root-ca.crt`.
    pub root_ca_config_maps: Resource<ConfigMap>,
    pub disruption_budgets: Resource<PodDisruptionBudget>,
    pub persistent_volumes: Resource<PersistentVolume>,
    pub persistent_volume_claims: Resource<PersistentVolumeClaim>,
    pub storage_classes: Resource<StorageClass>,
    /// Informers that one controller alone wants.
    others: Arc<Mutex<Vec<Starter>>>,
    /// Counts the lists of all informers. What was made and went between two of them is in no event.
    lists: watch::Sender<u64>,
}

/// Starts an informer; returns how far it has come.
type Starter = Box<dyn FnOnce(&Cluster, &mut JoinSet<()>, &CancellationToken) -> Receiver<u64> + Send>;

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("pods", &self.pods).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Makes the handles; nothing is read before [`Cluster::start`].
    pub fn new(client: kube::Client, environment: Environment, recorder: Recorder) -> Self {
        Self {
            namespaces: plain(&client),
            nodes: plain(&client),
            leases: plain(&client),
            pods: Resource::new(
                client.clone(),
                (),
                vec![
                    (Index::Owner, owner_uids::<Pod>),
                    (Index::Node, node_of),
                    (Index::Orphan, orphanage_of),
                    (Index::Claim, claims_of),
                ],
                None,
            ),
            replica_sets: Resource::new(client.clone(), (), vec![(Index::Owner, owner_uids::<ReplicaSet>)], None),
            deployments: plain(&client),
            services: plain(&client),
            endpoints: plain(&client),
            endpoint_slices: Resource::new(client.clone(), (), vec![(Index::Service, service_of)], None),
            service_accounts: plain(&client),
            root_ca_config_maps: Resource::new(
                client.clone(),
                (),
                vec![],
                Some(&format!("metadata.name={ROOT_CA_CONFIG_MAP}")),
            ),
            disruption_budgets: plain(&client),
            persistent_volumes: plain(&client),
            persistent_volume_claims: plain(&client),
            storage_classes: plain(&client),
            client,
            environment,
            recorder,
            others: Arc::default(),
            lists: watch::Sender::new(0),
        }
    }

    /// Reads, past every cache, the restore that nobody has confirmed yet. Whoever is about to delete what nobody asked
    /// to have deleted asks here first, and [`drover_api::restored::decide`] what must wait.
    ///
    /// # Errors
    /// [`Error::Request`] when the server does not say; then nothing may be deleted.
    pub async fn unconfirmed_restore(&self) -> Result<Option<Unconfirmed>> {
        let failed = |source: kube::Error| Error::Request {
            verb: "get",
            kind: "Restore".to_owned(),
            key: ObjectKey::cluster("cluster"),
            source: Box::new(source),
        };
        let request = http::Request::get(STATE_PATH).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        match self.client.request::<serde_json::Value>(request).await {
            Ok(state) => Ok(restored::unconfirmed(&state)),
            // Nothing was ever restored, or a server that knows no restores.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Says why a deletion that nobody asked for must wait; `None` when it need not.
    ///
    /// # Errors
    /// As [`Cluster::unconfirmed_restore`].
    pub async fn held_back(&self, deletion: Deletion) -> Result<Option<String>> {
        Ok(restored::decide(self.unconfirmed_restore().await?.as_ref(), deletion))
    }

    /// Has the informer of one more kind started with the others; for controllers, before [`Cluster::start`].
    pub fn also_start<K: Object>(&self, resource: &Resource<K>) {
        let resource = resource.clone();
        let starter: Starter = Box::new(move |cluster, tasks, shutdown| cluster.start_one(&resource, tasks, shutdown));
        self.others.lock().unwrap_or_else(PoisonError::into_inner).push(starter);
    }

    /// Returns how often informers have listed their kinds, now and later.
    pub fn lists(&self) -> Receiver<u64> {
        self.lists.subscribe()
    }

    /// Starts every informer on `tasks` and waits until each has listed once.
    pub async fn start(&self, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let mut synced = vec![
            self.start_one(&self.namespaces, tasks, shutdown),
            self.start_one(&self.nodes, tasks, shutdown),
            self.start_one(&self.leases, tasks, shutdown),
            self.start_one(&self.pods, tasks, shutdown),
            self.start_one(&self.replica_sets, tasks, shutdown),
            self.start_one(&self.deployments, tasks, shutdown),
            self.start_one(&self.services, tasks, shutdown),
            self.start_one(&self.endpoints, tasks, shutdown),
            self.start_one(&self.endpoint_slices, tasks, shutdown),
            self.start_one(&self.service_accounts, tasks, shutdown),
            self.start_one(&self.root_ca_config_maps, tasks, shutdown),
            self.start_one(&self.disruption_budgets, tasks, shutdown),
            self.start_one(&self.persistent_volumes, tasks, shutdown),
            self.start_one(&self.persistent_volume_claims, tasks, shutdown),
            self.start_one(&self.storage_classes, tasks, shutdown),
        ];
        let others = std::mem::take(&mut *self.others.lock().unwrap_or_else(PoisonError::into_inner));
        synced.extend(others.into_iter().map(|start| start(self, tasks, shutdown)));
        for synced in &mut synced {
            // Cancel-safe: waiting on a watch channel takes nothing from it.
            tokio::select! {
                () = shutdown.cancelled() => return,
                // The sender lives in the handle, which outlives this wait.
                _ = synced.wait_for(|revision| *revision > 0) => {}
            }
        }
    }

    fn start_one<K: Object>(
        &self,
        resource: &Resource<K>,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Receiver<u64> {
        let (environment, lists) = (self.environment.clone(), self.lists.clone());
        tasks.spawn(resource.clone().run_informer(environment, lists, shutdown.clone()));
        resource.shared.seen.subscribe()
    }
}

fn plain<K: Object + kube::Resource<DynamicType = ()>>(client: &kube::Client) -> Resource<K> {
    Resource::new(client.clone(), (), vec![], None)
}

fn node_of(pod: &Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
}

fn orphanage_of(pod: &Pod) -> Vec<String> {
    let orphan = crate::objects::owners::controller_of(&pod.metadata).is_none();
    pod.metadata.namespace.iter().filter(|_| orphan).cloned().collect()
}

fn claims_of(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|claim| format!("{namespace}/{}", claim.claim_name))
        .collect()
}

fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let service = slice.metadata.labels.iter().flatten().find(|(name, _)| *name == "kubernetes.io/service-name");
    service.map(|(_, service)| format!("{namespace}/{service}")).into_iter().collect()
}
