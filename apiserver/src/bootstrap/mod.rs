//! The objects that every cluster has, ensured at each start through the registry.
//!
//! What exists is left alone, so that an administrator's changes last; only built-in roles are brought up to date
//! (unless their autoupdate annotation says otherwise), as Kubernetes does it.

mod cluster;
mod endpoints;
mod roles;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};

use drover_api::{
    kinds,
    object::{self, at},
    status::ApiError,
};
use serde_json::{Value, json};

use crate::{
    authz::MASTERS,
    registry::{Part, Registry, WriteOptions},
    request::User,
};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What the built-in objects say of this server.
#[derive(Debug, Clone)]
pub(crate) struct BuiltIn {
    /// The address of the Service `default/kubernetes`.
    pub(crate) api_service: Ipv4Addr,
    /// Where pods reach this server, when that is known.
    pub(crate) advertised: Option<SocketAddr>,
    /// Name of the EndpointSlice that says so.
    pub(crate) slice: String,
}

impl BuiltIn {
    /// Makes what is missing or leads elsewhere.
    ///
    /// # Errors
    /// The registry's.
    pub(crate) async fn ensure(&self, registry: &Registry) -> Result<(), ApiError> {
        ensure(registry, self.api_service).await?;
        match self.advertised {
            Some(address) => publish(registry, address, &self.slice).await,
            None => Ok(()),
        }
    }
}

/// Makes what is missing. `api_service` is the address of the Service `default/kubernetes`.
///
/// # Errors
/// The registry's.
pub(crate) async fn ensure(registry: &Registry, api_service: Ipv4Addr) -> Result<(), ApiError> {
    for wanted in cluster::objects(api_service).into_iter().chain(roles::objects()) {
        ensure_object(registry, wanted).await?;
    }
    Ok(())
}

/// Names the EndpointSlice of this server: one each, where there are several.
pub(crate) fn slice_name(server_id: Option<&str>) -> String {
    server_id.map_or_else(|| "kubernetes".to_owned(), |id| format!("kubernetes-{id}"))
}

/// Makes the endpoints of `default/kubernetes` say `address`.
///
/// # Errors
/// The registry's.
pub(crate) async fn publish(registry: &Registry, address: SocketAddr, slice: &str) -> Result<(), ApiError> {
    for wanted in endpoints::objects(address, slice) {
        ensure_object(registry, wanted).await?;
    }
    Ok(())
}

async fn ensure_object(registry: &Registry, wanted: Value) -> Result<(), ApiError> {
    let (api_version, kind) = (object::str_at(&wanted, &["apiVersion"]), object::str_at(&wanted, &["kind"]));
    let Some(kind) = kinds::by_gvk(api_version, kind) else {
        return Err(ApiError::internal(format!("built-in object of unknown kind {api_version} {kind}")));
    };
    let (namespace, name) = (object::namespace(&wanted).to_owned(), object::name(&wanted).to_owned());
    let options = WriteOptions::of(server_user());
    match registry.get(kind, &namespace, &name).await {
        Ok(found) => {
            let Some(update) = plan_update(&found.to_value(), &wanted) else { return Ok(()) };
            registry.update(kind, (&namespace, &name), Part::Main, update, &options).await.map(drop)
        }
        Err(error) if error.code == 404 => match registry.create(kind, &namespace, wanted, &options).await {
            // Another server on the same store was quicker.
            Err(error) if error.reason == "AlreadyExists" => Ok(()),
            result => result.map(drop),
        },
        Err(error) => Err(error),
    }
}

/// Returns the object to write over `found`, `None` when it may stay as it is.
fn plan_update(found: &Value, wanted: &Value) -> Option<Value> {
    let fields: &[&str] = match object::str_at(wanted, &["kind"]) {
        "ClusterRole" => &["rules", "aggregationRule"],
        "Endpoints" => &["subsets"],
        "EndpointSlice" => &["endpoints", "ports"],
        _ => return None,
    };
    let autoupdate = at(found, &["metadata", "annotations", AUTOUPDATE]).and_then(Value::as_str);
    if autoupdate == Some("false") || fields.iter().all(|field| found.get(field) == wanted.get(field)) {
        return None;
    }
    let mut update = found.clone();
    for field in fields {
        match wanted.get(field) {
            Some(value) => update[*field] = value.clone(),
            None => drop(update.as_object_mut().and_then(|update| update.remove(*field))),
        }
    }
    Some(update)
}

fn server_user() -> User {
    User::new("system:apiserver", &[MASTERS])
}

fn labelled(mut object: Value) -> Value {
    object["metadata"]["labels"]["kubernetes.io/bootstrapping"] = "rbac-defaults".into();
    object["metadata"]["annotations"] = json!({AUTOUPDATE: "true"});
    object
}
