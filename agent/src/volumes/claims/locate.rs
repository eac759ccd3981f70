//! Where a claim's data is, by what the objects say: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::volumes::problem::Problem;

const LOCAL_DRIVER: &str = "drover.dev/local";
const DOCKER_DRIVER: &str = "drover.dev/docker";
const HOST_NAME: &str = "kubernetes.io/hostname";
/// The attribute that names Docker's volume driver; the rest are its options.
const DRIVER_ATTRIBUTE: &str = "driver";

/// Where a volume's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::volumes) enum Location {
    /// A directory of ours.
    Local { handle: String, uid: String, read_only: bool },
    /// A volume of the engine.
    Docker {
        name: String,
        uid: String,
        driver: String,
        options: BTreeMap<String, String>,
        read_only: bool,
        /// The data is where the driver has it, and each node's engine has a volume that leads there.
        shared: bool,
    },
    /// A path of the host that its administrator chose.
    Host { path: String, check: String, owned: bool },
}

impl Location {
    pub(in crate::volumes) fn read_only(&self) -> bool {
        match self {
            Self::Local { read_only, .. } | Self::Docker { read_only, .. } => *read_only,
            Self::Host { .. } => false,
        }
    }

    pub(in crate::volumes) fn takes_fs_group(&self) -> bool {
        match self {
            Self::Local { .. } | Self::Docker { .. } => true,
            Self::Host { owned, .. } => *owned,
        }
    }
}

/// Checks that claim and volume name each other.
pub(in crate::volumes) fn check_bound(
    claim: &PersistentVolumeClaim,
    volume: Option<&PersistentVolume>,
) -> Result<(), Problem> {
    let meta = &claim.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    if meta.deletion_timestamp.is_some() {
        return Err(Problem::passing(format!("persistentvolumeclaim {name:?} is being deleted")));
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if phase != "Bound" || volume_name.is_empty() {
        return Err(Problem::passing(format!(
            "persistentvolumeclaim {name:?} is not bound to a volume (phase {phase})"
        )));
    }
    let Some(volume) = volume else {
        return Err(Problem::passing(format!(
            "persistentvolume {volume_name:?} of persistentvolumeclaim {name:?} not found: its data is lost"
        )));
    };
    let back = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if back.and_then(|reference| reference.uid.as_deref()) != meta.uid.as_deref() || meta.uid.is_none() {
        return Err(Problem::passing(format!(
            "persistentvolume {volume_name:?} is bound to another claim than {name:?}"
        )));
    }
    if volume.metadata.deletion_timestamp.is_some() {
        return Err(Problem::passing(format!("persistentvolume {volume_name:?} is being deleted")));
    }
    Ok(())
}

/// Reads where a volume's data is.
pub(in crate::volumes) fn locate(volume: &PersistentVolume, node: &str) -> Result<Location, Problem> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = volume.spec.as_ref() else {
        return Err(Problem::lasting(format!("persistentvolume {name:?} has no spec")));
    };
    if spec.volume_mode.as_deref().is_some_and(|mode| mode != "Filesystem") {
        return Err(Problem::lasting(format!("persistentvolume {name:?} is a block device, which is not supported")));
    }
    if !admits(volume, node) {
        return Err(Problem::passing(format!("persistentvolume {name:?} is not on node {node:?}")));
    }
    if let Some(csi) = &spec.csi {
        let uid = volume.metadata.uid.clone().unwrap_or_default();
        let (handle, read_only) = (csi.volume_handle.clone(), csi.read_only == Some(true));
        return match csi.driver.as_str() {
            LOCAL_DRIVER => Ok(Location::Local { handle, uid, read_only }),
            DOCKER_DRIVER => {
                let mut options = csi.volume_attributes.clone().unwrap_or_default();
                let driver = options.remove(DRIVER_ATTRIBUTE).unwrap_or_else(|| "local".to_owned());
                // Keys of Kubernetes and of ours are no options of a driver.
                options.retain(|key, _| !key.contains('/'));
                // The built-in driver without a device keeps its data on the node, whatever the affinity says.
                let elsewhere = driver != "local" || options.contains_key("device");
                let shared = elsewhere && host_names(volume).is_empty();
                Ok(Location::Docker { name: handle, uid, driver, options, read_only, shared })
            }
            other => Err(Problem::lasting(format!("volumes of csi driver {other:?} are not supported"))),
        };
    }
    if let Some(local) = &spec.local {
        return Ok(Location::Host { path: local.path.clone(), check: "Directory".to_owned(), owned: true });
    }
    if let Some(host) = &spec.host_path {
        let check = host.type_.clone().unwrap_or_default();
        return Ok(Location::Host { path: host.path.clone(), check, owned: false });
    }
    Err(Problem::lasting(format!("persistentvolume {name:?} is of a kind that is not supported")))
}

/// Whether the volume's node affinity, as far as it names nodes, allows this one.
fn admits(volume: &PersistentVolume, node: &str) -> bool {
    let terms = host_names(volume);
    terms.is_empty()
        || terms.iter().any(|hosts| hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|host| host == node)))
}

/// Whether the volume is on this node and on no other.
pub(in crate::volumes) fn is_on_node(volume: &PersistentVolume, node: &str) -> bool {
    let terms = host_names(volume);
    let only_here =
        |hosts: &Option<Vec<String>>| hosts.as_ref().is_some_and(|hosts| hosts.len() == 1 && hosts[0] == node);
    !terms.is_empty() && terms.iter().all(only_here)
}

/// For each term of the node affinity the host names it asks for; `None` when it asks for none.
fn host_names(volume: &PersistentVolume) -> Vec<Option<Vec<String>>> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    terms
        .map(|term| {
            let mut wanted = term.match_expressions.iter().flatten();
            let wanted = wanted.find(|expression| expression.key == HOST_NAME && expression.operator == "In");
            wanted.map(|expression| expression.values.clone().unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(spec: &Value) -> PersistentVolume {
        let mut spec = spec.clone();
        spec["claimRef"] = json!({ "uid": "c-1" });
        serde_json::from_value(json!({ "metadata": { "name": "pv", "uid": "v-1" }, "spec": spec })).unwrap()
    }

    fn on(host: &str) -> Value {
        json!({ "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": HOST_NAME, "operator": "In", "values": [host] }] },
        ] } })
    }

    #[test]
    fn claim_and_volume_must_name_each_other() {
        let claim = |phase: &str, volume_name: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "metadata": { "name": "data", "uid": "c-1" },
                "spec": { "volumeName": volume_name }, "status": { "phase": phase },
            }))
            .unwrap()
        };
        let good = volume(&json!({}));
        let mut other = good.clone();
        other.spec.as_mut().unwrap().claim_ref.as_mut().unwrap().uid = Some("c-0".to_owned());
        assert!(check_bound(&claim("Bound", "pv"), Some(&good)).is_ok());
        let table = [
            (claim("Pending", ""), None, "is not bound"),
            (claim("Lost", "pv"), Some(&good), "is not bound"),
            (claim("Bound", "pv"), None, "not found"),
            (claim("Bound", "pv"), Some(&other), "another claim"),
        ];
        for (claim, volume, words) in table {
            let problem = check_bound(&claim, volume).unwrap_err();
            assert!(problem.message.contains(words) && problem.retry, "{problem:?}");
        }
    }

    #[test]
    fn every_kind_of_volume_has_its_place() {
        let csi = |driver: &str| {
            json!({ "csi": { "driver": driver, "volumeHandle": "h",
            "volumeAttributes": { "driver": "local", "type": "tmpfs", "storage.kubernetes.io/x": "y" } } })
        };
        let uid = || "v-1".to_owned();
        let table = [
            (csi(LOCAL_DRIVER), Location::Local { handle: "h".to_owned(), uid: uid(), read_only: false }),
            (
                csi(DOCKER_DRIVER),
                Location::Docker {
                    name: "h".to_owned(),
                    uid: uid(),
                    driver: "local".to_owned(),
                    options: [("type".to_owned(), "tmpfs".to_owned())].into(),
                    read_only: false,
                    shared: false,
                },
            ),
            (
                json!({ "local": { "path": "/mnt" } }),
                Location::Host { path: "/mnt".to_owned(), check: "Directory".to_owned(), owned: true },
            ),
            (
                json!({ "hostPath": { "path": "/mnt", "type": "DirectoryOrCreate" } }),
                Location::Host { path: "/mnt".to_owned(), check: "DirectoryOrCreate".to_owned(), owned: false },
            ),
        ];
        for (spec, location) in table {
            assert_eq!(locate(&volume(&spec), "n1").unwrap(), location);
        }
        for (spec, words) in [
            (csi("example.com"), "example.com"),
            (json!({ "nfs": { "server": "s", "path": "/" } }), "kind"),
            (json!({ "local": { "path": "/x" }, "volumeMode": "Block" }), "block device"),
            (json!({ "local": { "path": "/x" }, "nodeAffinity": on("n2") }), "not on node"),
        ] {
            assert!(locate(&volume(&spec), "n1").unwrap_err().message.contains(words), "{spec}");
        }
    }

    #[test]
    fn a_volume_is_of_this_node_only_when_it_says_so() {
        let spec = |affinity: Value| volume(&json!({ "local": { "path": "/x" }, "nodeAffinity": affinity }));
        assert!(is_on_node(&spec(on("n1")), "n1"));
        assert!(!is_on_node(&spec(on("n2")), "n1"));
        assert!(!is_on_node(&volume(&json!({})), "n1"));
        assert!(!is_on_node(&spec(json!({ "required": { "nodeSelectorTerms": [{}] } })), "n1"));
    }
}
