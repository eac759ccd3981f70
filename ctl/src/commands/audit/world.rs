//! What the checks look at, fetched once.

use serde_json::Value;

use crate::cluster::Cluster;

/// What the API said.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// The context of the kubeconfig.
    pub(super) context: String,
    /// The server's own report; null for a server that has none.
    pub(super) report: Value,
    pub(super) namespaces: Vec<Value>,
    pub(super) pods: Vec<Value>,
    pub(super) nodes: Vec<Value>,
    pub(super) service_accounts: Vec<Value>,
    pub(super) secrets: Vec<Value>,
    pub(super) network_policies: Vec<Value>,
    pub(super) roles: Vec<Value>,
    pub(super) cluster_roles: Vec<Value>,
    pub(super) role_bindings: Vec<Value>,
    pub(super) cluster_role_bindings: Vec<Value>,
}

impl World {
    /// Asks for everything. Of Secrets only their metadata is kept.
    pub(super) async fn fetch(cluster: &Cluster) -> anyhow::Result<Self> {
        const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
        let list = async |path: &str| match cluster.list(path).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            listed => listed,
        };
        let mut secrets = list("/api/v1/secrets").await?;
        for secret in &mut secrets {
            if let Some(secret) = secret.as_object_mut() {
                secret.retain(|key, _| matches!(key.as_str(), "metadata" | "type"));
            }
        }
        Ok(Self {
            context: cluster.context.clone(),
            report: cluster.find("/drover/v1/security-report").await?.unwrap_or_default(),
            namespaces: list("/api/v1/namespaces").await?,
            pods: list("/api/v1/pods").await?,
            nodes: list("/api/v1/nodes").await?,
            service_accounts: list("/api/v1/serviceaccounts").await?,
            secrets,
            network_policies: list("/apis/networking.k8s.io/v1/networkpolicies").await?,
            roles: list(&format!("{RBAC}/roles")).await?,
            cluster_roles: list(&format!("{RBAC}/clusterroles")).await?,
            role_bindings: list(&format!("{RBAC}/rolebindings")).await?,
            cluster_role_bindings: list(&format!("{RBAC}/clusterrolebindings")).await?,
        })
    }
}

/// `namespace/name` of an object.
pub(super) fn name_of(object: &Value) -> String {
    let (namespace, name) = (drover_api::object::namespace(object), drover_api::object::name(object));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Whether an object belongs to the cluster itself.
pub(super) fn is_system(object: &Value) -> bool {
    drover_api::object::namespace(object).starts_with("kube-")
}

/// The elements of a list in an object; none when it is absent.
pub(super) fn items<'a>(object: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    drover_api::object::at(object, path).and_then(Value::as_array).into_iter().flatten()
}
