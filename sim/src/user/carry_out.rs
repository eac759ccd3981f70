//! Carries users' actions out through the API. A user tries again until the server has answered.

use std::{collections::BTreeMap, future::Future, time::Duration};

use drover_apiserver::request::User as Identity;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{APPS, Action, objects};
use crate::{faults::Part, parts::IMAGES, transport::Transport, wire::Wire};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(700);
/// A user gives up after so many tries: the cluster may be down for longer than anyone waits.
const TRIES: usize = 40;
const NAMESPACE: &str = "default";

/// A user with a client of their own.
#[derive(Clone)]
pub struct User {
    client: Client,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("User").finish_non_exhaustive()
    }
}

impl User {
    /// An administrator of the cluster.
    pub(crate) fn new(wire: &Wire) -> Self {
        let life = wire.begin(Part::User);
        let identity = Identity::new("sim-admin", &["system:masters"]);
        Self { client: Transport::new(wire.clone(), life, identity).client() }
    }

    /// Makes what every run begins with: the apps with their Services and budgets.
    pub async fn set_up(&self, replicas: u32) {
        for name in APPS {
            self.ensure("", "v1", "Service", &objects::service(name)).await;
            self.ensure("policy", "v1", "PodDisruptionBudget", &objects::budget(name)).await;
            self.ensure("apps", "v1", "Deployment", &objects::deployment(name, replicas, IMAGES[0].0)).await;
        }
    }

    /// Carries one action out.
    pub async fn act(&self, action: Action, revisions: &mut BTreeMap<usize, Vec<usize>>) {
        match action {
            Action::Apply { app, replicas } => {
                self.ensure("apps", "v1", "Deployment", &objects::deployment(APPS[app], replicas, IMAGES[0].0)).await;
            }
            Action::Scale { app, replicas } => self.patch_app(app, json!({"spec": {"replicas": replicas}})).await,
            Action::Roll { app, image } => {
                revisions.entry(app).or_default().push(image);
                self.set_image(app, image).await;
            }
            Action::Undo { app } => {
                let images = revisions.entry(app).or_default();
                images.pop();
                let image = images.last().copied().unwrap_or(0);
                self.set_image(app, image).await;
            }
            Action::Recreate { app, replicas } => self.recreate(app, replicas).await,
            Action::DeletePod { which } => self.delete_pod(which).await,
            Action::Relabel { which } => self.relabel(which).await,
            Action::Drain { node } => self.drain(node).await,
            Action::Uncordon { node } => self.patch_node(node, json!({"spec": {"unschedulable": null}})).await,
            Action::LabelNode { node, value } => {
                self.patch_node(node, json!({"metadata": {"labels": {"zone": format!("z{value}")}}})).await;
            }
        }
    }

    /// Makes a receipt; says whether its creation was acknowledged.
    pub async fn receive(&self, number: u64) -> bool {
        let api = self.api("", "v1", "ConfigMap");
        let object = dynamic(&objects::receipt(number));
        self.insist(|| async { settled(api.create(&PostParams::default(), &object).await) }).await
    }

    async fn set_image(&self, app: usize, image: usize) {
        let containers = json!([{"name": "app", "image": IMAGES[image].0}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let api = self.api("apps", "v1", "Deployment");
        let params = PatchParams::default();
        self.insist(|| async { settled(api.patch(APPS[app], &params, &Patch::Strategic(&patch)).await) }).await;
    }

    async fn patch_app(&self, app: usize, patch: Value) {
        let api = self.api("apps", "v1", "Deployment");
        let params = PatchParams::default();
        self.insist(|| async { settled(api.patch(APPS[app], &params, &Patch::Merge(&patch)).await) }).await;
    }

    async fn patch_node(&self, node: usize, patch: Value) {
        let api: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        let (name, params) = (format!("n{node}"), PatchParams::default());
        self.insist(|| async { settled(api.patch(&name, &params, &Patch::Merge(&patch)).await) }).await;
    }

    async fn recreate(&self, app: usize, replicas: u32) {
        let api = self.api("apps", "v1", "Deployment");
        let params = DeleteParams::background();
        self.insist(|| async { settled(api.delete(APPS[app], &params).await) }).await;
        let object = dynamic(&objects::deployment(APPS[app], replicas, IMAGES[0].0));
        self.insist(|| async {
            match api.create(&PostParams::default(), &object).await {
                // The old one may still be going.
                Err(kube::Error::Api(status)) if status.message.contains("is being deleted") => None,
                other => settled(other),
            }
        })
        .await;
    }

    async fn delete_pod(&self, which: u64) {
        let Some(name) = self.choose_pod(which).await else { return };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        self.insist(|| async { settled(api.delete(&name, &DeleteParams::default()).await) }).await;
    }

    async fn relabel(&self, which: u64) {
        let Some(name) = self.choose_pod(which).await else { return };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patch = json!({"metadata": {"labels": {"app": "released"}}});
        let params = PatchParams::default();
        self.insist(|| async { settled(api.patch(&name, &params, &Patch::Merge(&patch)).await) }).await;
        // Nobody owns it now; it would run for ever.
        self.insist(|| async { settled(api.delete(&name, &DeleteParams::default()).await) }).await;
    }

    async fn drain(&self, node: usize) {
        self.patch_node(node, json!({"spec": {"unschedulable": true}})).await;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let on_node = ListParams::default().fields(&format!("spec.nodeName=n{node}"));
        let Ok(pods) = api.list(&on_node).await else { return };
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            // A budget may refuse for longer than this user has patience.
            self.insist(|| async { settled(api.evict(&name, &EvictParams::default()).await) }).await;
        }
    }

    async fn choose_pod(&self, which: u64) -> Option<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods = api.list(&ListParams::default()).await.ok()?.items;
        let living: Vec<Pod> = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        let index = usize::try_from(which).unwrap_or(0) % living.len().max(1);
        living.get(index)?.metadata.name.clone()
    }

    async fn ensure(&self, group: &str, version: &str, kind: &str, object: &Value) {
        let api = self.api(group, version, kind);
        let object = dynamic(object);
        self.insist(|| async { settled(api.create(&PostParams::default(), &object).await) }).await;
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }

    /// Tries until there is a verdict; `false` when there never was one.
    async fn insist<F: Future<Output = Option<bool>>>(&self, attempt: impl Fn() -> F) -> bool {
        for _ in 0..TRIES {
            if let Some(verdict) = attempt().await {
                return verdict;
            }
            tokio::time::sleep(RETRY).await;
        }
        false
    }
}

/// The server's verdict: `Some(true)` for success, `Some(false)` for a refusal that trying again will not change, `None`
/// for anything that may pass.
fn settled<T>(result: Result<T, kube::Error>) -> Option<bool> {
    match result {
        Ok(_) => Some(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 404 | 422) => Some(false),
        // Of an earlier try whose reply was lost, or of somebody else: it is there.
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Some(true),
        Err(_) => None,
    }
}

fn dynamic(object: &Value) -> DynamicObject {
    serde_json::from_value(object.clone()).expect("a constant that is an object")
}
