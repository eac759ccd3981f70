//! Which kind of volume a manifest asks for: pure.

use drover_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, SecretVolumeSource, Volume, VolumeProjection};

use super::problem::Problem;

/// A volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    EmptyDir { in_memory: bool, size_bytes: Option<u64> },
    HostPath { path: String, check: String },
    Content(Content),
    Claim { name: String, read_only: bool },
}

/// Files that come from objects of the API.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub default_mode: u32,
    /// Whether it must not touch the disk.
    pub in_memory: bool,
    pub sources: Vec<Source>,
}

/// Where some of the files come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    ConfigMap { name: String, items: Vec<KeyToPath>, optional: bool },
    Secret { name: String, items: Vec<KeyToPath>, optional: bool },
    Downward { items: Vec<DownwardAPIVolumeFile> },
    Token { audience: Option<String>, expiration_secs: i64, path: String },
}

const DEFAULT_MODE: i32 = 0o644;
const TOKEN_LIFE_SECS: i64 = 3600;

/// Reads one volume of a pod's spec.
pub(super) fn classify(pod: &Pod, volume: &Volume) -> Result<Kind, Problem> {
    let mode = |mode: Option<i32>| mode_bits(mode.unwrap_or(DEFAULT_MODE));
    if let Some(source) = &volume.empty_dir {
        let size = source.size_limit.as_ref().map(|limit| Quantity::parse(&limit.0)).transpose();
        let size = size.map_err(|error| Problem::lasting(format!("sizeLimit: {error}")))?;
        let size_bytes = size.and_then(|size| u64::try_from(size.value()).ok()).filter(|size| *size > 0);
        return match source.medium.as_deref().unwrap_or_default() {
            "" => Ok(Kind::EmptyDir { in_memory: false, size_bytes }),
            "Memory" => Ok(Kind::EmptyDir { in_memory: true, size_bytes: size_bytes.or_else(|| memory_limit(pod)) }),
            other => Err(Problem::lasting(format!("emptyDir medium {other:?} is not supported"))),
        };
    }
    if let Some(source) = &volume.host_path {
        return Ok(Kind::HostPath { path: source.path.clone(), check: source.type_.clone().unwrap_or_default() });
    }
    if let Some(source) = &volume.config_map {
        let items = source.items.clone().unwrap_or_default();
        let from = Source::ConfigMap { name: source.name.clone(), items, optional: source.optional == Some(true) };
        let default_mode = mode(source.default_mode);
        return Ok(Kind::Content(Content { default_mode, in_memory: false, sources: vec![from] }));
    }
    if let Some(source) = &volume.secret {
        return Ok(Kind::Content(secret(source, mode(source.default_mode))));
    }
    if let Some(source) = &volume.downward_api {
        let sources = vec![Source::Downward { items: source.items.clone().unwrap_or_default() }];
        let default_mode = mode(source.default_mode);
        return Ok(Kind::Content(Content { default_mode, in_memory: true, sources }));
    }
    if let Some(source) = &volume.projected {
        let sources = source.sources.iter().flatten().map(projection).collect::<Result<_, _>>()?;
        let default_mode = mode(source.default_mode);
        return Ok(Kind::Content(Content { default_mode, in_memory: true, sources }));
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only == Some(true);
        return Ok(Kind::Claim { name: source.claim_name.clone(), read_only });
    }
    Err(Problem::lasting(format!("volumes of kind {} are not supported", kind_name(volume))))
}

fn secret(source: &SecretVolumeSource, default_mode: u32) -> Content {
    let name = source.secret_name.clone().unwrap_or_default();
    let items = source.items.clone().unwrap_or_default();
    let from = Source::Secret { name, items, optional: source.optional == Some(true) };
    Content { default_mode, in_memory: true, sources: vec![from] }
}

fn projection(source: &VolumeProjection) -> Result<Source, Problem> {
    if let Some(source) = &source.config_map {
        let items = source.items.clone().unwrap_or_default();
        let optional = source.optional == Some(true);
        return Ok(Source::ConfigMap { name: source.name.clone(), items, optional });
    }
    if let Some(source) = &source.secret {
        let items = source.items.clone().unwrap_or_default();
        return Ok(Source::Secret { name: source.name.clone(), items, optional: source.optional == Some(true) });
    }
    if let Some(source) = &source.downward_api {
        return Ok(Source::Downward { items: source.items.clone().unwrap_or_default() });
    }
    if let Some(source) = &source.service_account_token {
        let expiration_secs = source.expiration_seconds.unwrap_or(TOKEN_LIFE_SECS);
        let audience = source.audience.clone().filter(|audience| !audience.is_empty());
        return Ok(Source::Token { audience, expiration_secs, path: source.path.clone() });
    }
    Err(Problem::lasting("projected volumes of this source are not supported"))
}

/// Permission bits of a manifest; anything beyond them is not for a manifest to set.
pub(super) fn mode_bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

/// The pod's memory limit, when every container has one: a tmpfs beyond it could only ever be killed for.
fn memory_limit(pod: &Pod) -> Option<u64> {
    let containers = &pod.spec.as_ref()?.containers;
    let mut sum = 0_u64;
    for container in containers {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("memory")?;
        sum = sum.saturating_add(u64::try_from(Quantity::parse(&limit.0).ok()?.value()).ok()?);
    }
    (sum > 0).then_some(sum)
}

/// The key under which the manifest names an unsupported kind.
fn kind_name(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let keys = value.as_object().into_iter().flat_map(|object| object.keys());
    keys.filter(|key| *key != "name").map(String::as_str).next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn classified(volume: &Value) -> Result<Kind, Problem> {
        let pod = serde_json::from_value(json!({ "spec": { "containers": [
            { "name": "a", "resources": { "limits": { "memory": "1Ki" } } },
            { "name": "b", "resources": { "limits": { "memory": "2Ki" } } },
        ] } }));
        let mut volume = volume.clone();
        volume["name"] = json!("v");
        classify(&pod.unwrap(), &serde_json::from_value(volume).unwrap())
    }

    #[test]
    fn every_kind_is_read_with_its_defaults() {
        let empty = |in_memory, size_bytes| Kind::EmptyDir { in_memory, size_bytes };
        let token = Source::Token { audience: None, expiration_secs: 3600, path: "token".to_owned() };
        let content =
            |default_mode, in_memory, source| Kind::Content(Content { default_mode, in_memory, sources: vec![source] });
        let table = [
            (json!({ "emptyDir": {} }), empty(false, None)),
            (json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }), empty(true, Some(1 << 20))),
            (json!({ "emptyDir": { "medium": "Memory" } }), empty(true, Some(3 << 10))),
            (
                json!({ "hostPath": { "path": "/x", "type": "File" } }),
                Kind::HostPath { path: "/x".to_owned(), check: "File".to_owned() },
            ),
            (
                json!({ "secret": { "secretName": "s", "defaultMode": 0o400, "optional": true } }),
                content(0o400, true, Source::Secret { name: "s".to_owned(), items: Vec::new(), optional: true }),
            ),
            (
                json!({ "configMap": { "name": "c" } }),
                content(0o644, false, Source::ConfigMap { name: "c".to_owned(), items: Vec::new(), optional: false }),
            ),
            (
                json!({ "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }),
                content(0o644, true, token),
            ),
            (
                json!({ "persistentVolumeClaim": { "claimName": "d", "readOnly": true } }),
                Kind::Claim { name: "d".to_owned(), read_only: true },
            ),
        ];
        for (volume, kind) in table {
            assert_eq!(classified(&volume).unwrap(), kind, "{volume}");
        }
    }

    #[test]
    fn an_unsupported_kind_is_named_and_not_retried() {
        for (volume, words) in [
            (json!({ "nfs": { "server": "s", "path": "/" } }), "nfs"),
            (json!({ "gitRepo": { "repository": "r" } }), "gitRepo"),
            (json!({ "emptyDir": { "medium": "HugePages" } }), "HugePages"),
            (json!({ "projected": { "sources": [{ "clusterTrustBundle": { "path": "p" } }] } }), "projected"),
        ] {
            let problem = classified(&volume).unwrap_err();
            assert!(problem.message.contains(words) && !problem.retry, "{problem:?}");
        }
    }
}
