//! Answering a TokenRequest: a pure plan over the cluster's objects, then one signature.

use drover_api::{kinds, object, status::ApiError};
use serde_json::{Map, Value, json};

use super::{ISSUER, jwt::Key};
use crate::{
    objects::{Objects, PODS, Resource, SECRETS, SERVICE_ACCOUNTS},
    registry::{Environment, Registry, format_time},
    request::{RequestInfo, User},
};

/// Life of a token that asks for none.
const LIFE_SECS: i64 = 3600;
/// Kubernetes' least.
const LIFE_SECS_MIN: i64 = 600;
/// Longer wishes are cut, as Kubernetes does with a configured maximum.
pub(crate) const LIFE_SECS_MAX: i64 = 24 * 3600;

/// A token to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    namespace: String,
    name: String,
    audiences: Vec<String>,
    life_secs: i64,
    /// The claim `kubernetes.io`.
    own: Value,
}

/// Waits until the caches show what was written before the request.
pub(super) async fn synchronise(registry: &Registry) -> Result<(), ApiError> {
    for (group, plural) in [SERVICE_ACCOUNTS, PODS] {
        if let Some(kind) = kinds::by_resource(group, "v1", plural) {
            registry.synchronise(kind).await?;
        }
    }
    Ok(())
}

/// Decides what token a request gets.
pub(super) fn plan(objects: &dyn Objects, user: &User, info: &RequestInfo, request: &Value) -> Result<Order, ApiError> {
    let (namespace, name) = (&info.namespace, &info.name);
    let account = find(objects, SERVICE_ACCOUNTS, namespace, name)?;
    let spec = &request["spec"];
    let mut own = Map::new();
    own.insert("namespace".to_owned(), namespace.as_str().into());
    own.insert("serviceaccount".to_owned(), json!({"name": name, "uid": object::uid(&account)}));
    let bound = spec.get("boundObjectRef").filter(|bound| !bound.is_null());
    match bound {
        Some(bound) => bind(objects, info, bound, &mut own)?,
        None if user.in_group("system:nodes") => return Err(forbidden(info, "node may not request an unbound token")),
        None => {}
    }
    check_node(objects, user, info, &own)?;
    let life_secs = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(LIFE_SECS);
    if life_secs < LIFE_SECS_MIN {
        let why = format!(
            "spec.expirationSeconds: Invalid value: {life_secs}: may not specify a duration less than 10 minutes"
        );
        return Err(invalid(&why));
    }
    let audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Order {
        namespace: namespace.clone(),
        name: name.clone(),
        audiences: if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences },
        life_secs: life_secs.min(LIFE_SECS_MAX),
        own: own.into(),
    })
}

impl Order {
    /// Signs the token and returns the request with its status filled in.
    pub(super) fn fulfil(self, key: &Key, environment: &dyn Environment, mut request: Value) -> Value {
        let now = environment.now();
        let (now_secs, expires) = (now.as_second(), now.as_second() + self.life_secs);
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.name),
            "aud": self.audiences,
            "iat": now_secs,
            "nbf": now_secs,
            "exp": expires,
            "jti": environment.uid(),
            "kubernetes.io": self.own,
        });
        let until = jiff::Timestamp::from_second(expires).map(format_time).unwrap_or_default();
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["metadata"]["name"] = self.name.into();
        request["metadata"]["namespace"] = self.namespace.into();
        request["metadata"]["creationTimestamp"] = format_time(now).into();
        request["spec"]["audiences"] = self.audiences.into();
        request["spec"]["expirationSeconds"] = self.life_secs.into();
        request["status"] = json!({"token": key.sign(&claims), "expirationTimestamp": until});
        request
    }
}

fn bind(
    objects: &dyn Objects,
    info: &RequestInfo,
    bound: &Value,
    own: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let name = object::str_at(bound, &["name"]);
    let (resource, key) = match object::str_at(bound, &["kind"]) {
        "Pod" => (PODS, "pod"),
        "Secret" => (SECRETS, "secret"),
        other => {
            let why =
                format!("spec.boundObjectRef: Invalid value: {other:?}: cannot bind token to object of this kind");
            return Err(invalid(&why));
        }
    };
    let found = find(objects, resource, &info.namespace, name)?;
    let (wanted, uid) = (object::str_at(bound, &["uid"]), object::uid(&found));
    if !wanted.is_empty() && wanted != uid {
        let text = format!("the UID in the bound object reference ({wanted}) does not match the UID in record ({uid})");
        return Err(ApiError::new(409, "Conflict", text));
    }
    own.insert(key.to_owned(), json!({"name": name, "uid": uid}));
    if resource == PODS {
        let account = object::str_at(&found, &["spec", "serviceAccountName"]);
        if account != info.name {
            let text = format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name",
                info.name
            );
            return Err(ApiError::bad_request(text));
        }
        let node = object::str_at(&found, &["spec", "nodeName"]);
        if let Some(node) = objects.find(crate::objects::NODES, "", node) {
            own.insert("node".to_owned(), json!({"name": object::name(&node), "uid": object::uid(&node)}));
        }
    }
    Ok(())
}

/// A node asks only for pods that are bound to it.
fn check_node(
    objects: &dyn Objects,
    user: &User,
    info: &RequestInfo,
    own: &Map<String, Value>,
) -> Result<(), ApiError> {
    let Some(node) = user.name.strip_prefix("system:node:").filter(|_| user.in_group("system:nodes")) else {
        return Ok(());
    };
    let pod = own.get("pod").map(|pod| object::str_at(pod, &["name"]));
    let pod = pod.and_then(|name| objects.find(PODS, &info.namespace, name));
    if pod.is_some_and(|pod| object::str_at(&pod, &["spec", "nodeName"]) == node) {
        return Ok(());
    }
    Err(forbidden(info, "node may only request tokens bound to pods that run on it"))
}

fn find(objects: &dyn Objects, resource: Resource, namespace: &str, name: &str) -> Result<Value, ApiError> {
    objects.find(resource, namespace, name).ok_or_else(|| {
        let mut error = ApiError::new(404, "NotFound", format!("{} {name:?} not found", resource.1));
        error.details = json!({"name": name, "kind": resource.1});
        error
    })
}

fn invalid(why: &str) -> ApiError {
    ApiError::new(422, "Invalid", format!("TokenRequest.authentication.k8s.io \"\" is invalid: {why}"))
}

fn forbidden(info: &RequestInfo, why: &str) -> ApiError {
    let mut error = ApiError::new(403, "Forbidden", format!("serviceaccounts {:?} is forbidden: {why}", info.name));
    error.details = json!({"name": info.name, "kind": "serviceaccounts"});
    error
}
