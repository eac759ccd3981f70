//! What a Deployment or ReplicaSet says of itself.

use drover_api::object::{self, str_at};
use serde_json::Value;

use super::{Reason, events::one_line};

/// Reads the conditions that say that a workload is in trouble.
pub(crate) fn workload(found: &Value) -> Option<Reason> {
    let conditions = object::at(found, &["status", "conditions"]).and_then(Value::as_array)?;
    let said = |one: &Value| one_line(str_at(one, &["message"]));
    let is = |one: &&Value, kind: &str, status: &str| str_at(one, &["type"]) == kind && one["status"] == status;
    if let Some(failure) = conditions.iter().find(|one| is(one, "ReplicaFailure", "True")) {
        return Some(Reason::problem(format!("pods cannot be created: {}", said(failure))));
    }
    let stalled = conditions.iter().find(|one| is(one, "Progressing", "False"))?;
    (str_at(stalled, &["reason"]) == "ProgressDeadlineExceeded").then(|| {
        Reason::problem("made no progress within its deadline").hint(format!(
            "droverctl rollout undo {}/{}",
            str_at(found, &["kind"]).to_lowercase(),
            object::name(found)
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_trouble_is_reported_and_the_cause_first() {
        let mut found = json!({"kind": "Deployment", "metadata": {"name": "web"}, "status": {"conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}});
        assert_eq!(workload(&found), None);
        found["status"]["conditions"][0] =
            json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
        let reason = workload(&found).unwrap();
        assert_eq!(reason.what, "made no progress within its deadline");
        assert_eq!(reason.hint.as_deref(), Some("droverctl rollout undo deployment/web"));
        let quota = json!({"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"});
        found["status"]["conditions"].as_array_mut().unwrap().push(quota);
        assert_eq!(workload(&found).unwrap().what, "pods cannot be created: exceeded quota");
    }
}
