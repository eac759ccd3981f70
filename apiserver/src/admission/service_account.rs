//! Every pod runs as a service account and finds its token, the cluster's CA and its namespace mounted.

use drover_api::{
    object::{at, str_at},
    status::ApiError,
};
use serde_json::{Value, json};

use super::{Effects, Operation, Request, Settings};

const DEFAULT_ACCOUNT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and a bit, as Kubernetes asks for; the agent renews the token before it ends.
const TOKEN_SECS: i64 = 3607;
/// 0644, what Kubernetes' own volume has.
const FILE_MODE: i64 = 420;
const SUFFIX: usize = 5;

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.is_main("", "Pod") {
        return Ok(());
    }
    if str_at(object, &["spec", "serviceAccountName"]).is_empty() {
        object["spec"]["serviceAccountName"] = DEFAULT_ACCOUNT.into();
    }
    let account_name = str_at(object, &["spec", "serviceAccountName"]).to_owned();
    object["spec"]["serviceAccount"] = account_name.clone().into();
    let Some(account) = request.world.get("", "serviceaccounts", request.namespace, &account_name) else {
        let namespace = request.namespace;
        let why = format!(
            "error looking up service account {namespace}/{account_name}: serviceaccount {account_name:?} not found"
        );
        return Err(ApiError::forbidden(request.kind, request.name, &why));
    };
    let account = account.to_value();
    let switch = |value: &Value, path: &[&str]| at(value, path).and_then(Value::as_bool);
    let automount = switch(object, &["spec", "automountServiceAccountToken"])
        .or_else(|| switch(&account, &["automountServiceAccountToken"]))
        .unwrap_or(true);
    if automount {
        mount_access(object, &request.environment.suffix(SUFFIX));
    }
    let none = |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if none(at(object, &["spec", "imagePullSecrets"])) && !none(account.get("imagePullSecrets")) {
        object["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

/// Adds the volume, and a mount to each container that has none at its place.
fn mount_access(pod: &mut Value, suffix: &str) {
    let volumes = at(pod, &["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten();
    let existing = volumes.map(|volume| str_at(volume, &["name"])).find(|name| name.starts_with(VOLUME_PREFIX));
    let present = existing.is_some();
    let name = existing.map_or_else(|| format!("{VOLUME_PREFIX}{suffix}"), str::to_owned);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            mounted |= mount(container, &name);
        }
    }
    if mounted && !present {
        append(&mut pod["spec"], "volumes", volume(&name));
    }
}

fn mount(container: &mut Value, volume: &str) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    let taken = mounts.into_iter().any(|mount| str_at(mount, &["mountPath"]) == MOUNT_PATH);
    if !taken {
        append(container, "volumeMounts", json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    }
    !taken
}

fn append(object: &mut Value, list: &str, item: Value) {
    let place = &mut object[list];
    match place.as_array_mut() {
        Some(items) => items.push(item),
        None => *place = json!([item]),
    }
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": FILE_MODE,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                ]}},
            ],
        },
    })
}
