//! The files of a volume from the objects they come from: pure.

use std::{collections::BTreeMap, path::Component, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use super::{
    kind::{Content, Source, mode_bits},
    problem::Problem,
    tokens::TokenKey,
};
use crate::{environment::fields, seams::PodFacts};

/// Files by their relative paths.
pub(super) type Payload = BTreeMap<String, PayloadFile>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PayloadFile {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Whose file it is; `None` is root's.
    pub uid: Option<u32>,
}

/// What was looked up. An object that is not there is not in its map.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
    pub tokens: BTreeMap<TokenKey, String>,
}

/// Who reads a pod's token files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reader {
    /// The user that all containers run as, where they agree.
    pub uid: Option<u32>,
    pub fs_group: Option<u32>,
}

/// Makes the files of a volume. Later sources win, as in Kubernetes.
pub(super) fn render(
    content: &Content,
    pod: &Pod,
    facts: &PodFacts,
    found: &Found,
    reader: Reader,
) -> Result<Payload, Problem> {
    let mut payload = Payload::new();
    for source in &content.sources {
        let files = match source {
            Source::ConfigMap { name, items, optional } => {
                let data = found.config_maps.get(name).map(|object| config_map_data(object));
                pick(data, (items, *optional, content.default_mode), ("configmap", "config", name))?
            }
            Source::Secret { name, items, optional } => {
                let data = found.secrets.get(name).map(|object| secret_data(object));
                pick(data, (items, *optional, content.default_mode), ("secret", "secret", name))?
            }
            Source::Downward { items } => downward(items, content.default_mode, pod, facts)?,
            Source::Token { audience, expiration_secs, path } => {
                let key = TokenKey { audience: audience.clone(), expiration_secs: *expiration_secs };
                let token = found.tokens.get(&key).ok_or_else(|| Problem::passing("the token is not there yet"))?;
                // A file for one reader is for nobody else (kubelet does the same).
                let mode = if reader == Reader::default() { content.default_mode } else { 0o600 };
                let file = PayloadFile { data: token.clone().into_bytes(), mode, uid: reader.uid };
                Payload::from([(path.clone(), file)])
            }
        };
        payload.extend(files);
    }
    for path in payload.keys() {
        check_path(path)?;
    }
    Ok(payload)
}

type Data = BTreeMap<String, Vec<u8>>;

fn config_map_data(object: &ConfigMap) -> Data {
    let text = object.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = object.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

fn secret_data(object: &Secret) -> Data {
    object.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn pick(
    data: Option<Data>,
    (items, optional, default_mode): (&[KeyToPath], bool, u32),
    (kind, word, name): (&str, &str, &str),
) -> Result<Payload, Problem> {
    let Some(data) = data else {
        let problem = || Problem::passing(format!("{kind} {name:?} not found"));
        return if optional { Ok(Payload::new()) } else { Err(problem()) };
    };
    let file =
        |data: Vec<u8>, mode: Option<i32>| PayloadFile { data, mode: mode.map_or(default_mode, mode_bits), uid: None };
    if items.is_empty() {
        return Ok(data.into_iter().map(|(key, value)| (key, file(value, None))).collect());
    }
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                payload.insert(item.path.clone(), file(value.clone(), item.mode));
            }
            None if optional => {}
            None => {
                return Err(Problem::passing(format!("references non-existent {word} key: {}", item.key)));
            }
        }
    }
    Ok(payload)
}

fn downward(
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    pod: &Pod,
    facts: &PodFacts,
) -> Result<Payload, Problem> {
    let mut payload = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => {
                let path = &field.field_path;
                let text = fields::field(pod, facts, path);
                text.ok_or_else(|| Problem::lasting(format!("unsupported fieldPath: {path}")))?
            }
            (None, Some(selector)) => {
                let name = selector.container_name.as_deref().unwrap_or_default();
                let container = crate::environment::find_container(pod, name);
                let container = container.ok_or_else(|| Problem::lasting(format!("container {name} not found")))?;
                fields::resource(container, selector, facts).map_err(Problem::lasting)?
            }
            (None, None) => return Err(Problem::lasting("a downwardAPI item needs fieldRef or resourceFieldRef")),
        };
        let mode = item.mode.map_or(default_mode, mode_bits);
        payload.insert(item.path.clone(), PayloadFile { data: text.into_bytes(), mode, uid: None });
    }
    Ok(payload)
}

/// A file's path stays inside its volume and out of the names that the atomic writer uses.
fn check_path(path: &str) -> Result<(), Problem> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") || path.contains('\0') {
        return Err(Problem::lasting(format!("invalid path {path:?}: must be relative, without '..'")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found() -> Found {
        let config_map = json!({ "data": { "a": "1", "b": "2" }, "binaryData": { "z": "/w==" } });
        let secret = json!({ "data": { "key": "cw==" } });
        let key = TokenKey { audience: None, expiration_secs: 3600 };
        Found {
            config_maps: [("cm".to_owned(), Arc::new(serde_json::from_value(config_map).unwrap()))].into(),
            secrets: [("sec".to_owned(), Arc::new(serde_json::from_value(secret).unwrap()))].into(),
            tokens: [(key, "jwt".to_owned())].into(),
        }
    }

    fn rendered(volume: serde_json::Value, reader: Reader) -> Result<String, Problem> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "labels": { "app": "x" } },
            "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": "2" } } }] },
        }))
        .unwrap();
        let mut volume = volume;
        volume["name"] = json!("v");
        let kind = super::super::kind::classify(&pod, &serde_json::from_value(volume).unwrap())?;
        let super::super::kind::Kind::Content(content) = kind else { panic!("{kind:?}") };
        let payload = render(&content, &pod, &PodFacts::default(), &found(), reader)?;
        let line = |(path, file): (&String, &PayloadFile)| {
            format!("{path} {:o} {:?} {:?}\n", file.mode, file.uid, String::from_utf8_lossy(&file.data))
        };
        Ok(payload.iter().map(line).collect())
    }

    #[test]
    fn keys_become_files_with_the_modes_asked_for() {
        let text = rendered(json!({ "configMap": { "name": "cm" } }), Reader::default()).unwrap();
        assert_eq!(text, "a 644 None \"1\"\nb 644 None \"2\"\nz 644 None \"\u{fffd}\"\n");
        let items = json!([{ "key": "b", "path": "d/e", "mode": 0o440 }]);
        let volume = json!({ "configMap": { "name": "cm", "items": items, "defaultMode": 0o600 } });
        assert_eq!(rendered(volume, Reader::default()).unwrap(), "d/e 440 None \"2\"\n");
    }

    #[test]
    fn a_projected_volume_holds_the_files_of_all_its_sources() {
        let sources = json!([
            { "serviceAccountToken": { "path": "token" } },
            { "configMap": { "name": "cm", "items": [{ "key": "a", "path": "ca.crt" }] } },
            { "secret": { "name": "sec" } },
            { "downwardAPI": { "items": [
                { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
                { "path": "cpu", "resourceFieldRef": { "containerName": "c", "resource": "limits.cpu" } },
            ] } },
        ]);
        let text = rendered(json!({ "projected": { "sources": sources } }), Reader::default()).unwrap();
        expect_test::expect![[r#"
            ca.crt 644 None "1"
            cpu 644 None "2"
            key 644 None "s"
            labels 644 None "app=\"x\""
            token 644 None "jwt"
        "#]]
        .assert_eq(&text);
        let token = json!({ "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } });
        let reader = Reader { uid: Some(7), fs_group: None };
        assert_eq!(rendered(token, reader).unwrap(), "token 600 Some(7) \"jwt\"\n");
    }

    #[test]
    fn what_is_missing_is_said_as_kubelet_says_it() {
        let items = json!([{ "key": "k", "path": "p" }]);
        let table = [
            (json!({ "configMap": { "name": "x" } }), Some("configmap \"x\" not found")),
            (json!({ "secret": { "secretName": "x" } }), Some("secret \"x\" not found")),
            (json!({ "configMap": { "name": "cm", "items": items } }), Some("references non-existent config key: k")),
            (
                json!({ "secret": { "secretName": "sec", "items": items } }),
                Some("references non-existent secret key: k"),
            ),
            (json!({ "configMap": { "name": "x", "optional": true } }), None),
            (json!({ "configMap": { "name": "cm", "items": items, "optional": true } }), None),
        ];
        for (volume, words) in table {
            let result = rendered(volume, Reader::default());
            assert_eq!(result.err().map(|problem| problem.message).as_deref(), words);
        }
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        for path in ["../x", "/x", "a/../../x", "..data", "..x", "", "."] {
            let items = json!([{ "key": "a", "path": path }]);
            let problem = rendered(json!({ "configMap": { "name": "cm", "items": items } }), Reader::default());
            assert!(problem.is_err_and(|problem| problem.message.contains("invalid path")), "{path}");
        }
    }
}
