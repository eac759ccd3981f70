//! What a DELETE does to an object, decided from values alone.

use drover_api::{
    kinds::Kind,
    object::{at, metadata_mut, str_at},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    options::{DeleteOptions, Propagation},
    strategy::{deletion_is_complete, mark_deleted},
};

/// The finalizer that makes the garbage collector orphan the dependents first.
const ORPHAN: &str = "orphan";
/// The finalizer that makes the garbage collector delete the dependents first.
const FOREGROUND: &str = "foregroundDeletion";
/// Kubernetes' default for a pod that does not say.
const POD_GRACE_SECS: i64 = 30;

/// The decision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeletePlan {
    /// Deletion is under way and nothing about it changes.
    Nothing,
    /// The object stays, marked, until its finalizers or its agent are done.
    Mark(Value),
    /// The object goes now.
    Remove,
}

/// Decides what deleting `current` means.
pub(crate) fn plan_delete(kind: &Kind, current: &Value, options: &DeleteOptions, now: Timestamp) -> DeletePlan {
    let mut object = current.clone();
    let marked = at(current, &["metadata", "deletionTimestamp"]).is_some();
    let finalized = apply_propagation(&mut object, options.propagation);
    let grace = grace_secs(kind, current, options);
    if marked {
        let running = at(current, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
        let shortened = (options.grace_period_secs.is_some() || grace == 0) && grace < running;
        if shortened {
            mark_deleted(&mut object, later(now, grace), grace);
        } else if !finalized {
            return if deletion_is_complete(kind, current) { DeletePlan::Remove } else { DeletePlan::Nothing };
        }
    } else {
        mark_deleted(&mut object, later(now, grace), grace);
    }
    if kind.group.is_empty() && kind.kind == "Namespace" {
        object["status"]["phase"] = "Terminating".into();
    }
    if deletion_is_complete(kind, &object) { DeletePlan::Remove } else { DeletePlan::Mark(object) }
}

fn later(now: Timestamp, secs: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(secs)).unwrap_or(Timestamp::MAX)
}

/// Only a pod that an agent runs is given time.
fn grace_secs(kind: &Kind, current: &Value, options: &DeleteOptions) -> i64 {
    if !kind.group.is_empty() || kind.kind != "Pod" {
        return 0;
    }
    let unbound = str_at(current, &["spec", "nodeName"]).is_empty();
    let finished = matches!(str_at(current, &["status", "phase"]), "Succeeded" | "Failed");
    if unbound || finished {
        return 0;
    }
    let own = at(current, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    options.grace_period_secs.or(own).unwrap_or(POD_GRACE_SECS).max(0)
}

/// Adds and removes the garbage collector's finalizers; tells whether anything changed.
fn apply_propagation(object: &mut Value, propagation: Option<Propagation>) -> bool {
    let Some(propagation) = propagation else { return false };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let before = at(object, &["metadata", "finalizers"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut after: Vec<Value> =
        before.iter().filter(|item| **item != json!(ORPHAN) && **item != json!(FOREGROUND)).cloned().collect();
    after.extend(wanted.map(Value::from));
    let same = before.len() == after.len() && before.iter().all(|item| after.contains(item));
    if same {
        return false;
    }
    if after.is_empty() {
        metadata_mut(object).remove("finalizers");
    } else {
        metadata_mut(object).insert("finalizers".to_owned(), after.into());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::kind;

    fn pod(patch: &Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        json_patch(&mut pod, patch);
        pod
    }

    fn json_patch(target: &mut Value, patch: &Value) {
        match (target.as_object_mut(), patch.as_object()) {
            (Some(fields), Some(changes)) => {
                for (key, value) in changes {
                    json_patch(fields.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            _ => *target = patch.clone(),
        }
    }

    fn grace(secs: i64) -> DeleteOptions {
        DeleteOptions { grace_period_secs: Some(secs), ..DeleteOptions::default() }
    }

    fn propagate(propagation: Propagation) -> DeleteOptions {
        DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() }
    }

    fn told(plan: &DeletePlan) -> String {
        match plan {
            DeletePlan::Nothing => "nothing".to_owned(),
            DeletePlan::Remove => "remove".to_owned(),
            DeletePlan::Mark(object) => {
                let metadata = &object["metadata"];
                format!(
                    "mark {} +{} {}",
                    metadata["deletionTimestamp"].as_str().unwrap_or("?"),
                    metadata["deletionGracePeriodSeconds"],
                    metadata.get("finalizers").unwrap_or(&Value::Null)
                )
            }
        }
    }

    fn check(group: &str, plural: &str, current: &Value, options: &DeleteOptions, expected: &str) {
        let plan = plan_delete(kind(group, plural), current, options, Timestamp::UNIX_EPOCH);
        assert_eq!(told(&plan), expected, "{current} {options:?}");
    }

    #[test]
    fn a_running_pod_is_given_time_and_others_are_not() {
        let default = DeleteOptions::default();
        check("", "pods", &pod(&json!({})), &default, "mark 1970-01-01T00:00:30Z +30 null");
        let own = pod(&json!({"spec": {"terminationGracePeriodSeconds": 5}}));
        check("", "pods", &own, &default, "mark 1970-01-01T00:00:05Z +5 null");
        check("", "pods", &own, &grace(7), "mark 1970-01-01T00:00:07Z +7 null");
        check("", "pods", &own, &grace(0), "remove");
        check("", "pods", &pod(&json!({"spec": {"nodeName": ""}})), &default, "remove");
        check("", "pods", &pod(&json!({"status": {"phase": "Succeeded"}})), &default, "remove");
        check("", "configmaps", &json!({"metadata": {}}), &grace(30), "remove");
    }

    #[test]
    fn a_deletion_under_way_can_be_shortened_but_not_extended() {
        let dying = pod(&json!({"metadata": {
            "deletionTimestamp": "1970-01-01T00:00:20Z", "deletionGracePeriodSeconds": 20
        }}));
        check("", "pods", &dying, &DeleteOptions::default(), "nothing");
        check("", "pods", &dying, &grace(60), "nothing");
        check("", "pods", &dying, &grace(3), "mark 1970-01-01T00:00:03Z +3 null");
        check("", "pods", &dying, &grace(0), "remove");
    }

    #[test]
    fn finalizers_keep_an_object_and_propagation_chooses_them() {
        let held = json!({"metadata": {"finalizers": ["x/y"]}});
        let free = json!({"metadata": {}});
        let at = "mark 1970-01-01T00:00:00Z +0";
        check("", "configmaps", &held, &DeleteOptions::default(), &format!("{at} [\"x/y\"]"));
        check(
            "apps",
            "deployments",
            &free,
            &propagate(Propagation::Foreground),
            &format!("{at} [\"foregroundDeletion\"]"),
        );
        check("apps", "deployments", &free, &propagate(Propagation::Orphan), &format!("{at} [\"orphan\"]"));
        check("apps", "deployments", &free, &propagate(Propagation::Background), "remove");
        let waiting = json!({"metadata": {
            "finalizers": ["foregroundDeletion"], "deletionTimestamp": "t", "deletionGracePeriodSeconds": 0
        }});
        check("apps", "deployments", &waiting, &DeleteOptions::default(), "nothing");
        check("apps", "deployments", &waiting, &propagate(Propagation::Background), "remove");
    }

    #[test]
    fn a_namespace_waits_for_its_own_finalizers() {
        let namespace = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let DeletePlan::Mark(marked) =
            plan_delete(kind("", "namespaces"), &namespace, &DeleteOptions::default(), Timestamp::UNIX_EPOCH)
        else {
            panic!("must wait");
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
        check("", "namespaces", &marked, &DeleteOptions::default(), "nothing");
    }
}
