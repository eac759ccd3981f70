//! What a pod refers to by name: pure readers of pod specs.

use drover_api::object;
use serde_json::Value;

pub(super) fn uses_secret(pod: &Value, name: &str) -> bool {
    let pulls = list(&pod["spec"], "imagePullSecrets").any(|secret| is(secret, "name", name));
    let mounts = volumes(pod).any(|volume| {
        is(&volume["secret"], "secretName", name)
            || projected(volume).any(|source| is(&source["secret"], "name", name))
            || is(&volume["csi"]["nodePublishSecretRef"], "name", name)
    });
    pulls || mounts || env_uses(pod, "secretKeyRef", "secretRef", name)
}

pub(super) fn uses_config_map(pod: &Value, name: &str) -> bool {
    let mounts = volumes(pod).any(|volume| {
        is(&volume["configMap"], "name", name) || projected(volume).any(|source| is(&source["configMap"], "name", name))
    });
    mounts || env_uses(pod, "configMapKeyRef", "configMapRef", name)
}

pub(super) fn uses_service_account(pod: &Value, name: &str) -> bool {
    is(&pod["spec"], "serviceAccountName", name)
}

pub(super) fn uses_claim(pod: &Value, name: &str) -> bool {
    let own = object::name(pod);
    volumes(pod).any(|volume| {
        is(&volume["persistentVolumeClaim"], "claimName", name)
            || (volume.get("ephemeral").is_some() && format!("{own}-{}", object::str_at(volume, &["name"])) == name)
    })
}

/// Whether an Ingress has its certificate in the Secret.
pub(super) fn ingress_uses(ingress: &Value, secret: &str) -> bool {
    list(&ingress["spec"], "tls").any(|tls| is(tls, "secretName", secret))
}

/// Whether a volume's node affinity names the node.
pub(super) fn volume_is_on(volume: &Value, node: &str) -> bool {
    let terms = object::at(volume, &["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
    let terms = terms.and_then(Value::as_array).into_iter().flatten();
    terms.flat_map(|term| list(term, "matchExpressions")).any(|expression| {
        is(expression, "key", "kubernetes.io/hostname")
            && is(expression, "operator", "In")
            && list(expression, "values").any(|value| value == node)
    })
}

fn env_uses(pod: &Value, key_ref: &str, from_ref: &str, name: &str) -> bool {
    containers(pod).any(|container| {
        list(container, "env").any(|variable| is(&variable["valueFrom"][key_ref], "name", name))
            || list(container, "envFrom").any(|source| is(&source[from_ref], "name", name))
    })
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|key| list(&pod["spec"], key))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"], "volumes")
}

fn projected(volume: &Value) -> impl Iterator<Item = &Value> {
    list(&volume["projected"], "sources")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn is(value: &Value, key: &str, wanted: &str) -> bool {
    value.get(key).and_then(Value::as_str) == Some(wanted)
}
