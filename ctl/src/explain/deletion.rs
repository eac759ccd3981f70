//! Why a deleted object is still there.

use drover_api::object::{self, str_at};
use serde_json::Value;

/// Says what a deletion waits for, as the end of a sentence; `None` for an object that is not being deleted.
pub(crate) fn deletion(found: &Value) -> Option<String> {
    if str_at(found, &["metadata", "deletionTimestamp"]).is_empty() {
        return None;
    }
    let listed = object::at(found, &["metadata", "finalizers"]).and_then(Value::as_array);
    let finalizers: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    if !finalizers.is_empty() {
        return Some(format!(
            ": waits for {}",
            finalizers.iter().map(|name| finalizer(name)).collect::<Vec<_>>().join(" and ")
        ));
    }
    Some(match str_at(found, &["kind"]) {
        "Pod" => {
            let grace = object::at(found, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
            let node = str_at(found, &["spec", "nodeName"]);
            format!(": its containers on node {node} are stopping, for which they have {} s", grace.unwrap_or(0))
        }
        "Namespace" => format!(": {}", namespace(found)),
        _ => ": it is being deleted".to_owned(),
    })
}

fn finalizer(name: &str) -> String {
    match name {
        "kubernetes.io/pvc-protection" => "the pods that use it to end".to_owned(),
        "kubernetes.io/pv-protection" => "the claim that is bound to it to go".to_owned(),
        "foregroundDeletion" => "its dependents to go".to_owned(),
        "drover.dev/volume" => "its node to remove the data".to_owned(),
        other => format!("the owner of finalizer {other}"),
    }
}

fn namespace(found: &Value) -> String {
    let conditions = object::at(found, &["status", "conditions"]).and_then(Value::as_array);
    let telling =
        conditions.into_iter().flatten().find(|one| one["status"] == "True" && !str_at(one, &["message"]).is_empty());
    telling.map_or_else(
        || "its contents are being deleted".to_owned(),
        |one| super::events::one_line(str_at(one, &["message"])),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_deletion_waits_for_is_said_in_words() {
        let mut claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "x"}});
        assert_eq!(deletion(&claim), None);
        claim["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubernetes.io/pvc-protection", "example.com/x"]});
        let said = deletion(&claim).unwrap();
        assert_eq!(said, ": waits for the pods that use it to end and the owner of finalizer example.com/x");
    }

    #[test]
    fn a_pod_waits_for_its_containers() {
        let pod = json!({"kind": "Pod", "metadata": {"deletionTimestamp": "x", "deletionGracePeriodSeconds": 30}, "spec": {"nodeName": "n1"}});
        assert_eq!(deletion(&pod).unwrap(), ": its containers on node n1 are stopping, for which they have 30 s");
    }
}
