use std::collections::HashSet;

use super::*;
use crate::schema;

#[test]
fn every_kind_has_its_type_and_its_list_type_in_the_schema_table() {
    for kind in all() {
        let found = schema::by_name(kind.type_name).unwrap_or_else(|| panic!("no type {}", kind.type_name));
        assert!(found.is_object, "{} is not an object type", kind.type_name);
        assert_eq!(found.name, kind.kind);
        assert_eq!(found.package.api_version, kind.api_version());
        if kind.verbs.contains(&"list") {
            assert!(schema::by_name(&format!("{}List", kind.type_name)).is_some(), "no list type of {}", kind.kind);
        }
    }
}

#[test]
fn resources_and_kinds_are_found_by_their_names_and_are_unique() {
    let mut seen = HashSet::new();
    for kind in all() {
        assert!(seen.insert((kind.group, kind.plural)), "{} twice", kind.qualified_resource());
        assert!(std::ptr::eq(by_resource(kind.group, kind.version, kind.plural).unwrap(), kind));
        assert!(std::ptr::eq(by_gvk(&kind.api_version(), kind.kind).unwrap(), kind));
    }
    assert!(by_resource("apps", "v1", "pods").is_none());
    assert!(by_gvk("v1", "Deployment").is_none());
}

#[test]
fn every_subresource_is_described() {
    for kind in all() {
        for name in kind.subresources {
            let found = kind.subresource(name).unwrap_or_else(|| panic!("{}/{name} is not described", kind.plural));
            assert!(found.type_name.is_none_or(|name| schema::by_name(name).is_some()));
        }
    }
    assert!(by_gvk("v1", "ConfigMap").unwrap().subresource("status").is_none());
}

#[test]
fn the_second_view_of_events_is_stored_in_the_core_form() {
    let view = by_gvk("events.k8s.io/v1", "Event").unwrap();
    assert_eq!(view.storage_kind().api_version(), "v1");
    let pod = by_gvk("v1", "Pod").unwrap();
    assert!(std::ptr::eq(pod.storage_kind(), pod));
}

#[test]
fn generation_is_kept_where_kubernetes_keeps_it() {
    let kept: Vec<_> = all().iter().filter(|kind| kind.has_generation).map(|kind| kind.kind).collect();
    assert_eq!(
        kept,
        [
            "Pod",
            "Deployment",
            "ReplicaSet",
            "EndpointSlice",
            "IngressClass",
            "Ingress",
            "PodDisruptionBudget",
            "PriorityClass"
        ]
    );
}
