//! How a host becomes a node: `POST /drover/v1/join` with a certificate signing request.
//!
//! A node is known by its key. The first time, a join token (`id.secret`, kept as a hash in a JoinToken) lets the key in,
//! and a NodeKey is made of it; from then on a request that the key itself has signed is enough, also long after the last
//! certificate has ended: a cluster that was off comes back by itself. A NodeKey that is revoked or deleted ends the
//! node's rights at once, whatever its certificate says.
//!
//! The request is `{"node", "csr", "clusterName"?}`, the token comes as `Authorization: Bearer id.secret`. The answer is
//! `{"certificate", "certificateAuthority", "certificateLifeSeconds", "clusterName", "clusterCidr", "serviceCidr"}`. It is the one path besides
//! health that needs no user, for it finds out itself who asks; without either credential it is 401 as all others.

mod csr;
mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use drover_api::{
    kinds::{self, Kind},
    status::ApiError,
};
use http::Method;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    authn, authz,
    front::{Request, Response, json_response},
    pki::Pki,
    registry::{Part, Registry, WriteOptions, format_time},
    request::{RequestInfo, User},
};
use csr::SigningRequest;
use plan::{Asked, Known, Step};

const PATH: &str = "/drover/v1/join";
const GROUP: (&str, &str) = ("drover.dev", "v1alpha1");
/// Far more than any request of a P-256 key.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What joining nodes are told of the cluster, and how long their certificates live.
#[derive(Debug, Clone)]
pub(crate) struct JoinConfig {
    /// Signs.
    pub(crate) pki: Arc<Pki>,
    /// A node that expects another one is refused.
    pub(crate) cluster_name: String,
    /// The addresses of all pods.
    pub(crate) cluster_cidr: String,
    /// The addresses of Services.
    pub(crate) service_cidr: String,
    /// Life of a node's certificate.
    pub(crate) certificate_life: Duration,
}

/// Lets nodes in.
pub(crate) struct Joins {
    registry: Arc<Registry>,
    config: JoinConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    node: String,
    csr: String,
    #[serde(default)]
    cluster_name: Option<String>,
}

impl Joins {
    pub(crate) fn new(registry: Arc<Registry>, config: JoinConfig) -> Self {
        Self { registry, config }
    }

    /// Whether a request is for this module.
    pub(crate) fn serves(info: &RequestInfo) -> bool {
        info.path == PATH
    }

    /// Answers a request whose sender nobody has identified yet. `identified` is told who it is.
    ///
    /// # Errors
    /// 401 without a good credential, 403 for a token that is used up or has ended and for a key that is revoked, 409 for
    /// a name that is taken and for another cluster, 400 and 422 for what makes no sense.
    pub(crate) async fn answer(
        &self,
        request: Request,
        identified: &(dyn Fn(&User) + Sync),
    ) -> Result<Response, ApiError> {
        if request.method() != Method::POST {
            return Err(crate::request::method_not_allowed());
        }
        let token = authn::bearer(request.headers())?.map(str::to_owned);
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| ApiError::bad_request(format!("cannot read the request: {error}")))?.to_bytes();
        let body: Body = serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad_request(format!("cannot read the request: {error}")))?;
        let signing = SigningRequest::read(&body.csr, &body.node)?;
        let key_hash = signing.key_hash();
        let asked = Asked { node: &body.node, key_hash: &key_hash, token: token.as_deref() };
        let step = plan::plan(&asked, &self.known(&asked).await?, self.registry.environment().now())?;
        identified(&node_user(&body.node));
        self.check_cluster(body.cluster_name.as_deref())?;
        if let Step::Admit { token } = step {
            self.admit(&asked, &token).await?;
        }
        let pem = self.config.pki.sign_node_certificate(
            &body.node,
            signing.public_key(),
            self.config.certificate_life,
            self.registry.environment().now().into(),
        );
        let pem = pem.map_err(|error| ApiError::internal(error.to_string()))?;
        let JoinConfig { pki, cluster_name, cluster_cidr, service_cidr, certificate_life } = &self.config;
        Ok(json_response(
            201,
            &json!({
                "certificate": pem,
                "certificateAuthority": pki.ca_pem(),
                "certificateLifeSeconds": certificate_life.as_secs(),
                "clusterName": cluster_name,
                "clusterCidr": cluster_cidr,
                "serviceCidr": service_cidr,
            }),
        ))
    }

    /// Makes a node's key known without a token: for what this process itself starts.
    ///
    /// # Errors
    /// 409 when the node has another key.
    pub(crate) async fn vouch(&self, node: &str, key_hash: &str) -> Result<(), ApiError> {
        self.register(node, key_hash, "").await
    }

    async fn known(&self, asked: &Asked<'_>) -> Result<Known, ApiError> {
        let key = self.find("nodekeys", asked.node).await?;
        let token = match plan::token_id(asked) {
            Some(id) => self.find("jointokens", id).await?,
            None => None,
        };
        let lease = kinds::by_resource("coordination.k8s.io", "v1", "leases")
            .and_then(|kind| self.registry.peek(kind, "kube-node-lease", asked.node));
        Ok(Known { key, token, lease: lease.map(|lease| lease.to_value()) })
    }

    async fn find(&self, plural: &str, name: &str) -> Result<Option<Value>, ApiError> {
        match self.registry.get(kind(plural)?, "", name).await {
            Ok(found) => Ok(Some(found.to_value())),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Uses the token up by one, then registers the key. A crash in between leaves a use that the same key may repeat.
    async fn admit(&self, asked: &Asked<'_>, token: &str) -> Result<(), ApiError> {
        let now = self.registry.environment().now();
        let used = |current: &Value| plan::use_up(asked, current, &format_time(now));
        self.registry.modify(kind("jointokens")?, ("", token), Part::Status, &ours(), &used).await?;
        self.register(asked.node, asked.key_hash, token).await?;
        tracing::info!(node.name = asked.node, token.id = token, "node joined");
        Ok(())
    }

    async fn register(&self, node: &str, key_hash: &str, token: &str) -> Result<(), ApiError> {
        let key = json!({
            "apiVersion": "drover.dev/v1alpha1",
            "kind": "NodeKey",
            "metadata": {"name": node},
            "spec": {"publicKeyHash": key_hash, "joinToken": token},
        });
        match self.registry.create(kind("nodekeys")?, "", key, &ours()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == 409 => {
                // Two joined at once: the first has the name.
                let found = self.find("nodekeys", node).await?;
                let same = found.is_some_and(|found| plan::key_hash_of(&found) == key_hash);
                if same { Ok(()) } else { Err(plan::name_taken(node)) }
            }
            Err(error) => Err(error),
        }
    }

    fn check_cluster(&self, expected: Option<&str>) -> Result<(), ApiError> {
        let own = &self.config.cluster_name;
        match expected {
            Some(expected) if expected != own => {
                let text = format!("this is cluster {own:?}, not {expected:?}: the node was not let in");
                Err(ApiError::new(409, "Conflict", text))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `user`, whose certificate has a key of this hash, is still a node of the cluster. Others than nodes are.
pub(crate) fn is_registered(registry: &Registry, user: &User) -> bool {
    let Some(node) = authz::node_of(user) else { return !user.in_group("system:nodes") };
    let hash = user.extra.get(KEY_HASH).and_then(|hashes| hashes.first());
    let key = kind("nodekeys").ok().and_then(|kind| registry.peek(kind, "", node));
    let Some((hash, key)) = hash.zip(key) else { return false };
    let key = key.to_value();
    let revoked = plan::is_revoked(&key) && !drover_api::mutants::active("A30-revoked-key-is-good");
    plan::key_hash_of(&key) == hash && !revoked
}

/// Names the attribute of a node's [`User`] that holds the hash of its certificate's key.
pub(crate) const KEY_HASH: &str = "drover.dev/public-key-hash";

fn node_user(node: &str) -> User {
    User::new(format!("system:node:{node}"), &["system:nodes"])
}

fn ours() -> WriteOptions {
    WriteOptions::of(User::new("system:drover:join", &[authz::MASTERS]))
}

fn kind(plural: &str) -> Result<&'static Kind, ApiError> {
    kinds::by_resource(GROUP.0, GROUP.1, plural).ok_or_else(|| ApiError::internal(format!("{plural} are not served")))
}
