//! Annotations that this tool shares with kubectl.

use drover_api::object;
use serde_json::{Value, json};

/// What was applied last, as JSON: the base of the next three-way merge.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// When a rollout was last restarted.
pub(crate) const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// The revision of a ReplicaSet of a Deployment.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Why a revision was made.
pub(crate) const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// Returns an annotation, or `""`.
pub(crate) fn annotation<'a>(found: &'a Value, key: &str) -> &'a str {
    object::str_at(found, &["metadata", "annotations", key])
}

/// Returns the manifest with itself noted in its annotations, spelled as kubectl spells it, so that both tools see
/// nothing to change after each other.
pub(crate) fn with_last_applied(manifest: &Value) -> Value {
    let mut noted = manifest.clone();
    if !noted["metadata"]["annotations"].is_object() {
        noted["metadata"]["annotations"] = json!({});
    }
    if let Some(annotations) = noted["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    let text = go_json(&noted);
    noted["metadata"]["annotations"][LAST_APPLIED] = text.into();
    noted
}

/// Reads what was applied last; `Null` when nothing was, or not by a tool that notes it.
pub(crate) fn last_applied(live: &Value) -> Value {
    serde_json::from_str(annotation(live, LAST_APPLIED)).unwrap_or(Value::Null)
}

/// JSON as Go's encoder writes it: with HTML characters escaped and a newline at the end.
fn go_json(value: &Value) -> String {
    let mut text = String::new();
    for letter in value.to_string().chars() {
        match letter {
            // These stand within strings only, where an escape means the same.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => text.push(letter),
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_spelled_as_kubectl_spells_it_and_reads_back() {
        let manifest =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": "a<b>&"}});
        let noted = with_last_applied(&manifest);
        assert_eq!(
            annotation(&noted, LAST_APPLIED),
            "{\"apiVersion\":\"v1\",\"data\":{\"x\":\"a\\u003cb\\u003e\\u0026\"},\"kind\":\"ConfigMap\",\
             \"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n"
        );
        assert_eq!(last_applied(&noted)["data"]["x"], "a<b>&");
        assert_eq!(with_last_applied(&noted), noted);
    }
}
