//! Who is let in. Pure.

use drover_api::{
    object::{at, str_at},
    status::ApiError,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{front::unauthorized, pki::identity::fingerprint};

/// A node whose Lease is younger is alive: its name cannot be taken over. Kubernetes' grace period of a node.
const ALIVE: SignedDuration = SignedDuration::from_secs(40);

/// What a host asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) node: &'a str,
    /// Of the key that has signed the request.
    pub(super) key_hash: &'a str,
    /// `id.secret`.
    pub(super) token: Option<&'a str>,
}

/// What the cluster knows about it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The NodeKey of the node's name.
    pub(super) key: Option<Value>,
    /// The JoinToken that the token names.
    pub(super) token: Option<Value>,
    /// The Lease of the node's name.
    pub(super) lease: Option<Value>,
}

/// What is to be done before the certificate is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the key is the node's.
    Renew,
    /// Use this token up by one and register the key.
    Admit { token: String },
}

/// Decides.
///
/// # Errors
/// Why not, in words that tell only who has a good credential more than that it is not good.
pub(super) fn plan(asked: &Asked<'_>, known: &Known, now: Timestamp) -> Result<Step, ApiError> {
    if let Some(key) = known.key.as_ref().filter(|key| key_hash_of(key) == asked.key_hash) {
        return if is_revoked(key) {
            Err(forbidden(&format!("the key of node {:?} is revoked", asked.node)))
        } else {
            Ok(Step::Renew)
        };
    }
    let (id, secret) = asked.token.and_then(split).ok_or_else(unauthorized)?;
    let token = known.token.as_ref().filter(|token| is_secret(token, secret)).ok_or_else(unauthorized)?;
    if ends(token).is_none_or(|end| end <= now) {
        let end = str_at(token, &["spec", "expirationTimestamp"]);
        return Err(forbidden(&format!("join token {id:?} has ended at {end}: make another (droverctl token create)")));
    }
    if known.key.is_some() && !drover_api::mutants::active("A34-name-for-any-key") {
        return Err(name_taken(asked.node));
    }
    let renewed = known.lease.as_ref().and_then(|lease| str_at(lease, &["spec", "renewTime"]).parse().ok());
    if renewed.is_some_and(|renewed: Timestamp| now.duration_since(renewed) < ALIVE) {
        let text = format!(
            "a node named {:?} is alive in this cluster: give this host another name (--node-name)",
            asked.node
        );
        return Err(ApiError::new(409, "Conflict", text));
    }
    use_up(asked, token, "")?;
    Ok(Step::Admit { token: id.to_owned() })
}

/// The token with one more use. A host that comes again under its name takes no further one: its answer may have got
/// lost, or an administrator has deleted its old key.
///
/// # Errors
/// 403 when it is used up.
pub(super) fn use_up(asked: &Asked<'_>, token: &Value, now: &str) -> Result<Value, ApiError> {
    let mut token = token.clone();
    let uses_max = at(&token, &["spec", "maxUses"]).and_then(Value::as_u64).unwrap_or(1);
    let mut nodes = at(&token, &["status", "nodes"]).and_then(Value::as_array).cloned().unwrap_or_default();
    nodes.retain(|node| str_at(node, &["name"]) != asked.node);
    let unlimited = drover_api::mutants::active("A34-join-token-for-all");
    if u64::try_from(nodes.len()).unwrap_or(u64::MAX) >= uses_max && !unlimited {
        let names: Vec<&str> = nodes.iter().map(|node| str_at(node, &["name"])).collect();
        let id = str_at(&token, &["metadata", "name"]);
        return Err(forbidden(&format!("join token {id:?} is used up: it has let in {}", names.join(", "))));
    }
    nodes.push(json!({"name": asked.node, "publicKeyHash": asked.key_hash, "joinTime": now}));
    token["status"]["nodes"] = nodes.into();
    Ok(token)
}

/// The id of the token that came along.
pub(super) fn token_id<'a>(asked: &Asked<'a>) -> Option<&'a str> {
    asked.token.and_then(split).map(|(id, _)| id)
}

pub(super) fn key_hash_of(key: &Value) -> &str {
    str_at(key, &["spec", "publicKeyHash"])
}

pub(super) fn is_revoked(key: &Value) -> bool {
    at(key, &["spec", "revoked"]).and_then(Value::as_bool).unwrap_or(false)
}

/// 409: the name has another key.
pub(super) fn name_taken(node: &str) -> ApiError {
    let text = format!(
        "node {node:?} has joined with another key: give this host another name (--node-name), or, when it takes the \
         place of that node, delete the old key first (droverctl delete nodekey {node})"
    );
    ApiError::new(409, "Conflict", text)
}

fn split(token: &str) -> Option<(&str, &str)> {
    token.split_once('.').filter(|(id, secret)| !id.is_empty() && !secret.is_empty())
}

/// Compares hashes: how long that takes tells of a hash that the sender knows and cannot choose.
fn is_secret(token: &Value, secret: &str) -> bool {
    fingerprint(secret.as_bytes()) == str_at(token, &["spec", "secretHash"])
}

fn ends(token: &Value) -> Option<Timestamp> {
    str_at(token, &["spec", "expirationTimestamp"]).parse().ok()
}

fn forbidden(why: &str) -> ApiError {
    ApiError::new(403, "Forbidden", why)
}
