//! Changes one thing in an OCI bundle: the network namespace that its container joins.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::value::{RawValue, to_raw_value};

type Fields = BTreeMap<String, Box<RawValue>>;

/// Makes the container of the bundle in `folder` join the network namespace at `namespace`.
pub(crate) fn join_network(folder: &Path, namespace: &str) -> Result<(), String> {
    let config = folder.join("config.json");
    let failed = |step: &str, error: &dyn std::fmt::Display| format!("cannot {step} {}: {error}", config.display());
    let before = fs::read_to_string(&config).map_err(|error| failed("read", &error))?;
    let after = with_network(&before, namespace).map_err(|error| failed("understand", &error))?;
    let fresh = folder.join("config.json.drover");
    write_private(&fresh, &after).and_then(|()| fs::rename(&fresh, &config)).map_err(|error| failed("write", &error))
}

/// Writes a file that only its owner reads: a bundle holds the container's environment.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// The configuration with its network namespace's path replaced (or the namespace added). Every field that is not on
/// the way there keeps its bytes, so that no number or order the engine chose is disturbed.
fn with_network(config: &str, namespace: &str) -> serde_json::Result<String> {
    let mut root: Fields = serde_json::from_str(config)?;
    let mut linux: Fields = fields(root.get("linux").map(AsRef::as_ref))?;
    let mut namespaces: Vec<BTreeMap<String, String>> = match linux.get("namespaces") {
        Some(list) => serde_json::from_str::<Option<_>>(list.get())?.unwrap_or_default(),
        None => Vec::new(),
    };
    namespaces.retain(|entry| entry.get("type").is_none_or(|kind| kind != "network"));
    namespaces.push([("type", "network"), ("path", namespace)].map(|(key, value)| (key.into(), value.into())).into());
    linux.insert("namespaces".into(), to_raw_value(&namespaces)?);
    root.insert("linux".into(), to_raw_value(&linux)?);
    serde_json::to_string(&root)
}

fn fields(value: Option<&RawValue>) -> serde_json::Result<Fields> {
    value.map_or_else(|| Ok(Fields::new()), |raw| Ok(serde_json::from_str::<Option<_>>(raw.get())?.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_namespace_gives_way_to_the_pods() {
        let docker = r#"{"ociVersion":"1.0.2","linux":{"resources":{"memory":{"limit":1.0e3}},"namespaces":[{"type":"mount"},{"type":"network","path":"/var/run/docker/netns/default"},{"type":"uts"}]},"process":{"args":["a","b"]}}"#;
        let expected = r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"uts"},{"path":"/run/drover/netns/u1","type":"network"}],"resources":{"memory":{"limit":1.0e3}}},"ociVersion":"1.0.2","process":{"args":["a","b"]}}"#;
        assert_eq!(with_network(docker, "/run/drover/netns/u1").unwrap(), expected);
    }

    #[test]
    fn a_bundle_without_a_network_namespace_gets_one() {
        let expected = r#"{"linux":{"namespaces":[{"path":"/n","type":"network"}]}}"#;
        for config in ["{}", r#"{"linux":null}"#, r#"{"linux":{"namespaces":null}}"#, r#"{"linux":{"namespaces":[]}}"#]
        {
            assert_eq!(with_network(config, "/n").unwrap(), expected, "{config}");
        }
    }

    #[test]
    fn what_is_not_a_bundle_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(join_network(folder.path(), "/n").unwrap_err().contains("cannot read"));
        let config = folder.path().join("config.json");
        fs::write(&config, "[1]").unwrap();
        assert!(join_network(folder.path(), "/n").unwrap_err().contains("cannot understand"));
        assert_eq!(fs::read_to_string(&config).unwrap(), "[1]");
    }
}
