use std::collections::BTreeSet;

use super::*;

/// Collects every string under `key`, at any depth.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                if let Some(text) = inner.as_str().filter(|_| name == key) {
                    found.push(text);
                }
                collect(inner, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_of_every_document_is_defined_and_operation_ids_are_unique() {
    let mut ids = BTreeSet::new();
    for (group, version) in kinds::group_versions() {
        let document = v3(group, version).unwrap();
        let mut references = Vec::new();
        collect(&document, "$ref", &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{group}/{version} lacks {name}");
        }
        let mut operations = Vec::new();
        collect(&document["paths"], "operationId", &mut operations);
        for id in operations {
            assert!(ids.insert(id.to_owned()), "{id} twice");
        }
    }
    assert!(v3("batch", "v1").is_none());
}

/// What kubectl's `apply` looks for: the first PATCH of a kind, its media types and its parameters.
#[test]
fn every_patch_of_a_kind_takes_strategic_patches_and_field_validation() {
    for kind in kinds::all().iter().filter(|kind| kind.verbs.contains(&"patch")) {
        let document = v3(kind.group, kind.version).unwrap();
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let patches: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|item| item.get("patch"))
            .filter(|patch| patch["x-kubernetes-group-version-kind"] == gvk)
            .collect();
        assert!(!patches.is_empty(), "{} has no PATCH", kind.plural);
        for patch in patches {
            let content = patch["requestBody"]["content"].as_object().unwrap();
            assert!(content.contains_key("application/strategic-merge-patch+json"));
            let parameters: Vec<_> =
                patch["parameters"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(parameters, ["dryRun", "fieldManager", "fieldValidation"]);
            assert_eq!(patch["x-kubernetes-action"], "patch");
        }
        let name = kind.object_type().openapi_name();
        let gvks = &document["components"]["schemas"][name]["x-kubernetes-group-version-kind"];
        assert!(gvks.as_array().unwrap().contains(&gvk));
    }
}

#[test]
fn merge_keys_and_list_types_are_stated() {
    let document = v3("apps", "v1").unwrap();
    let field = |ty: &str, name: &str| document["components"]["schemas"][ty]["properties"][name].clone();
    assert_eq!(
        field("io.k8s.api.core.v1.PodSpec", "volumes"),
        json!({
            "type": "array",
            "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Volume"},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-strategy": "merge,retainKeys",
            "x-kubernetes-patch-merge-key": "name",
        })
    );
    assert_eq!(
        field("io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
        json!({
            "allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}],
            "x-kubernetes-patch-strategy": "retainKeys",
        })
    );
    assert_eq!(field("io.k8s.api.core.v1.Container", "command")["x-kubernetes-list-type"], "atomic");
    assert_eq!(field("io.k8s.api.core.v1.PodSpec", "nodeSelector")["x-kubernetes-map-type"], "atomic");
}

#[test]
fn paths_follow_scope_verbs_and_subresources() {
    let apps = v3("apps", "v1").unwrap();
    let methods = |document: &Value, path: &str| -> Vec<String> {
        let item = document["paths"].get(path).unwrap_or_else(|| panic!("no {path}"));
        item.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect()
    };
    let one = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    assert_eq!(methods(&apps, one), ["delete", "get", "patch", "put"]);
    assert_eq!(methods(&apps, &format!("{one}/scale")), ["get", "patch", "put"]);
    assert_eq!(methods(&apps, "/apis/apps/v1/deployments"), ["get"]);
    let scale = &apps["paths"][format!("{one}/scale")]["patch"]["x-kubernetes-group-version-kind"];
    assert_eq!(*scale, json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    let core = v3("", "v1").unwrap();
    assert_eq!(methods(&core, "/api/v1/nodes/{name}"), ["delete", "get", "patch", "put"]);
    assert_eq!(methods(&core, "/api/v1/namespaces"), ["get", "post"]);
    assert_eq!(methods(&core, "/api/v1/namespaces/{name}/finalize"), ["put"]);
    assert_eq!(methods(&core, "/api/v1/namespaces/{namespace}/pods/{name}/eviction"), ["post"]);
    let reviews = v3("authorization.k8s.io", "v1").unwrap();
    assert_eq!(methods(&reviews, "/apis/authorization.k8s.io/v1/subjectaccessreviews"), ["post"]);
}

#[test]
fn the_index_lists_every_document_with_a_hash_of_its_content() {
    let paths = v3_index()["paths"].as_object().unwrap();
    assert_eq!(paths.len(), kinds::group_versions().len());
    let url = paths["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let hash = url.strip_prefix("/openapi/v3/apis/apps/v1?hash=").unwrap();
    assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(paths["api/v1"]["serverRelativeURL"], paths["apis/apps/v1"]["serverRelativeURL"]);
}
