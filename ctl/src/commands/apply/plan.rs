//! What to send so that the live object says what the manifest says.

use serde_json::{Value, json};

use crate::{
    cluster::{PatchType, Resource},
    commands::annotations::{last_applied, with_last_applied},
};

/// The write that brings an object in line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    /// Create it.
    Create(Value),
    /// Change it.
    Patch(PatchType, Value),
    /// Nothing differs.
    Nothing,
}

/// Compares a manifest with the live object and with what was applied last.
///
/// # Errors
/// When a list of the manifest lacks the key that its items are merged by.
pub(crate) fn plan(resource: &Resource, manifest: &Value, live: Option<&Value>) -> Result<Write, String> {
    let modified = with_last_applied(manifest);
    let Some(live) = live else { return Ok(Write::Create(modified)) };
    let original = last_applied(live);
    let (kind, patch) = match resource.schema() {
        Some(kind) => {
            let patch = drover_api::patch::three_way_strategic(kind, &original, &modified, live);
            (PatchType::Strategic, patch.map_err(|error| error.message)?)
        }
        None => (PatchType::Merge, drover_api::patch::three_way_merge(&original, &modified, live)),
    };
    Ok(if patch == json!({}) { Write::Nothing } else { Write::Patch(kind, patch) })
}

/// Checks an object without a server, for one whose namespace does not exist yet: the server could not even try.
///
/// Returns the problem, in the server's words. Kinds that are not in the table pass.
pub(crate) fn check_alone(resource: &Resource, manifest: &Value) -> Option<String> {
    use drover_api::{decode, defaults, status::ApiError, validate};
    let kind = resource.schema()?;
    let bytes = serde_json::to_vec(manifest).ok()?;
    match decode::decode(kind, &bytes, decode::FieldValidation::Strict) {
        Err(error) => Some(error.message),
        Ok(decoded) => {
            let mut object = decoded.object;
            defaults::apply(kind, &mut object);
            let errors = validate::create(kind, &object);
            let name = drover_api::object::name(&object);
            (!errors.is_empty()).then(|| ApiError::invalid(kind, name, &errors).message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::annotations::LAST_APPLIED;

    fn deployments() -> Resource {
        drover_api::kinds::by_gvk("apps/v1", "Deployment").map(Resource::from).unwrap()
    }

    fn manifest(replicas: i64, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    fn without_note(write: Write) -> Value {
        match write {
            Write::Patch(_, mut patch) => {
                patch["metadata"]["annotations"].as_object_mut().map(|annotations| annotations.remove(LAST_APPLIED));
                patch
            }
            Write::Create(_) => json!("create"),
            Write::Nothing => json!("nothing"),
        }
    }

    #[test]
    fn an_object_that_is_not_there_is_created_with_its_note() {
        let write = plan(&deployments(), &manifest(1, "a"), None).unwrap();
        assert_eq!(write, Write::Create(with_last_applied(&manifest(1, "a"))));
    }

    #[test]
    fn the_same_manifest_again_changes_nothing_even_when_the_server_added_defaults() {
        let mut live = with_last_applied(&manifest(1, "a"));
        live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
        live["metadata"]["uid"] = "u".into();
        live["status"] = json!({"replicas": 1});
        assert_eq!(plan(&deployments(), &manifest(1, "a"), Some(&live)).unwrap(), Write::Nothing);
    }

    #[test]
    fn changes_and_removals_are_sent_and_what_others_set_is_left_alone() {
        let mut live = with_last_applied(&manifest(1, "a"));
        live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
        let patch = without_note(plan(&deployments(), &manifest(1, "b"), Some(&live)).unwrap());
        assert_eq!(patch["spec"]["template"]["spec"]["containers"], json!([{"name": "c", "image": "b"}]));
        let mut fewer = manifest(1, "a");
        fewer["spec"].as_object_mut().unwrap().remove("replicas");
        let patch = without_note(plan(&deployments(), &fewer, Some(&live)).unwrap());
        assert_eq!(patch["spec"], json!({"replicas": null}));
    }

    #[test]
    fn an_object_is_checked_without_a_server_in_the_servers_words() {
        let mut wrong = manifest(1, "a");
        wrong["spec"]["replicas"] = (-1).into();
        let problem = check_alone(&deployments(), &wrong).unwrap();
        assert!(problem.contains("spec.replicas"), "{problem}");
        wrong["spec"]["replicaz"] = 1.into();
        let problem = check_alone(&deployments(), &wrong).unwrap();
        assert!(problem.contains("unknown field \"spec.replicaz\""), "{problem}");
        assert_eq!(check_alone(&deployments(), &manifest(1, "a")), None);
    }
}
