//! The revisions of a Deployment, which are its ReplicaSets.

use drover_api::object::{self, str_at};
use serde_json::{Map, Value, json};

use crate::{
    commands::annotations::{CHANGE_CAUSE, LAST_APPLIED, REVISION, annotation},
    failure::Failure,
};

/// The label that tells the ReplicaSets of a Deployment apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// One revision.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Revision {
    /// Its number.
    pub(super) number: i64,
    /// Why it was made, as far as somebody noted it.
    pub(super) cause: String,
    /// The pods it is made of.
    pub(super) template: Value,
}

impl Revision {
    /// The images of its containers.
    pub(super) fn images(&self) -> String {
        let containers = object::at(&self.template, &["spec", "containers"]).and_then(Value::as_array);
        containers.into_iter().flatten().map(|one| str_at(one, &["image"])).collect::<Vec<_>>().join(",")
    }
}

/// Reads the revisions of the Deployment with a uid out of ReplicaSets, oldest first.
pub(super) fn revisions(owner: &str, sets: Vec<Value>) -> Vec<Revision> {
    let owned = |set: &Value| {
        let owners = object::at(set, &["metadata", "ownerReferences"]).and_then(Value::as_array);
        owners.into_iter().flatten().any(|one| str_at(one, &["uid"]) == owner)
    };
    let read = |mut set: Value| {
        let number = annotation(&set, REVISION).parse().ok()?;
        let cause = match annotation(&set, CHANGE_CAUSE) {
            "" => "<none>".to_owned(),
            cause => cause.to_owned(),
        };
        let mut template = set["spec"]["template"].take();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove(TEMPLATE_HASH);
        }
        if let Some(metadata) = template["metadata"].as_object_mut() {
            metadata.remove("creationTimestamp");
        }
        Some(Revision { number, cause, template })
    };
    let mut found: Vec<Revision> = sets.into_iter().filter(owned).filter_map(read).collect();
    found.sort_by_key(|revision| revision.number);
    found
}

/// The merge patch that brings back a revision; `None` when the Deployment runs that template already. 0 means the
/// revision before the current one.
pub(super) fn undo_patch(live: &Value, history: &[Revision], number: i64) -> Result<Option<Value>, Failure> {
    let wanted = if number == 0 {
        history.iter().rev().nth(1).ok_or_else(|| Failure::new("there is no earlier revision to go back to"))?
    } else {
        history.iter().find(|revision| revision.number == number).ok_or_else(|| missing(number, history))?
    };
    let current = object::at(live, &["spec", "template"]).unwrap_or(&Value::Null);
    let difference = difference(&without_creation(current), &wanted.template);
    if difference == json!({}) {
        return Ok(None);
    }
    let mut patch = json!({"spec": {"template": difference}});
    let version = object::resource_version(live);
    if !version.is_empty() {
        patch["metadata"] = json!({"resourceVersion": version});
    }
    // The cause belongs to the revision, not to the Deployment.
    if annotation(live, CHANGE_CAUSE) != wanted.cause && wanted.cause != "<none>" {
        patch["metadata"]["annotations"] = json!({CHANGE_CAUSE: wanted.cause});
    }
    debug_assert!(patch["metadata"]["annotations"].get(LAST_APPLIED).is_none(), "an undo is not an apply");
    Ok(Some(patch))
}

/// A revision that does not exist, and those that do.
pub(super) fn missing(number: i64, history: &[Revision]) -> Failure {
    let known: Vec<String> = history.iter().map(|revision| revision.number.to_string()).collect();
    Failure::new(format!("revision {number} does not exist")).help(format!("there are: {}", known.join(", ")))
}

fn without_creation(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.remove("creationTimestamp");
    }
    template
}

/// The JSON merge patch from one document to another: what is gone becomes null, lists are replaced whole.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (key, wanted) in to {
        match from.get(key) {
            Some(current) if current == wanted => {}
            Some(current @ Value::Object(_)) if wanted.is_object() => {
                patch.insert(key.clone(), difference(current, wanted));
            }
            Some(_) | None => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    patch.extend(from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(owner: &str, number: &str, image: &str) -> Value {
        json!({"metadata": {"ownerReferences": [{"uid": owner}], "annotations": {REVISION: number}},
            "spec": {"template": {"metadata": {"labels": {"app": "web", TEMPLATE_HASH: "x"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    fn deployment(image: &str) -> Value {
        json!({"metadata": {"resourceVersion": "7"}, "spec": {"template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"restarted": "now"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    #[test]
    fn revisions_are_the_owned_replica_sets_in_order_of_number() {
        let found = revisions("d", vec![set("d", "10", "b"), set("other", "3", "x"), set("d", "9", "a")]);
        let shown: Vec<String> =
            found.iter().map(|one| format!("{} {} {}", one.number, one.cause, one.images())).collect();
        assert_eq!(shown, ["9 <none> a", "10 <none> b"]);
        assert_eq!(found[0].template["metadata"], json!({"labels": {"app": "web"}}));
    }

    #[test]
    fn undo_brings_back_the_template_before_and_removes_what_was_added_since() {
        let history = revisions("d", vec![set("d", "1", "a"), set("d", "2", "b")]);
        let patch = undo_patch(&deployment("b"), &history, 0).unwrap().unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"template": {
                "metadata": {"annotations": null}, "spec": {"containers": [{"name": "c", "image": "a"}]}}}})
        );
    }

    #[test]
    fn undo_to_what_runs_already_is_nothing_and_to_what_is_not_there_an_error() {
        let history = revisions("d", vec![set("d", "1", "a"), set("d", "2", "b")]);
        let mut live = deployment("b");
        live["spec"]["template"]["metadata"].as_object_mut().unwrap().remove("annotations");
        assert_eq!(undo_patch(&live, &history, 2).unwrap(), None);
        assert_eq!(undo_patch(&live, &history, 7).unwrap_err().to_string(), "revision 7 does not exist");
        assert_eq!(
            undo_patch(&live, &history[..1], 0).unwrap_err().to_string(),
            "there is no earlier revision to go back to"
        );
    }
}
