//! The table is compared with what `k8s-openapi` says about the same types, both ways.

use std::collections::BTreeSet;

use k8s_openapi::{api as k8s, apimachinery::pkg::apis::meta::v1 as meta};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::*;

fn reference() -> SchemaGenerator {
    let mut generator = SchemaSettings::draft07().into_generator();
    macro_rules! add {
        ($($ty:ty),* $(,)?) => { $(generator.subschema_for::<$ty>();)* };
    }
    add!(
        k8s::core::v1::Namespace,
        k8s::core::v1::Node,
        k8s::core::v1::Pod,
        k8s::core::v1::Service,
        k8s::core::v1::Endpoints,
        k8s::core::v1::ConfigMap,
        k8s::core::v1::Secret,
        k8s::core::v1::ServiceAccount,
        k8s::core::v1::Event,
        k8s::core::v1::PersistentVolume,
        k8s::core::v1::PersistentVolumeClaim,
        k8s::core::v1::Binding,
        k8s::apps::v1::Deployment,
        k8s::apps::v1::ReplicaSet,
        k8s::apps::v1::ControllerRevision,
        k8s::discovery::v1::EndpointSlice,
        k8s::coordination::v1::Lease,
        k8s::events::v1::Event,
        k8s::networking::v1::Ingress,
        k8s::networking::v1::IngressClass,
        k8s::policy::v1::PodDisruptionBudget,
        k8s::policy::v1::Eviction,
        k8s::autoscaling::v1::Scale,
        k8s::rbac::v1::Role,
        k8s::rbac::v1::ClusterRole,
        k8s::rbac::v1::RoleBinding,
        k8s::rbac::v1::ClusterRoleBinding,
        k8s::scheduling::v1::PriorityClass,
        k8s::storage::v1::StorageClass,
        k8s::authorization::v1::SubjectAccessReview,
        k8s::authorization::v1::SelfSubjectAccessReview,
        k8s::authorization::v1::LocalSubjectAccessReview,
        k8s::authorization::v1::SelfSubjectRulesReview,
        k8s::authentication::v1::TokenRequest,
        k8s::authentication::v1::TokenReview,
        k8s::authentication::v1::SelfSubjectReview,
        meta::DeleteOptions,
        meta::Status,
        meta::ListMeta,
        meta::APIResourceList,
    );
    generator
}

/// Fields that `k8s-openapi` calls required, or not, against what Kubernetes' own schema says: its structs hold a
/// plain `String` where Kubernetes defaults a missing name to `""`, and an `Option` where a zero time is usual.
const DISPUTED: &[(&str, &str)] = &[
    ("ConfigMapEnvSource", "name"),
    ("ConfigMapKeySelector", "name"),
    ("ConfigMapProjection", "name"),
    ("ConfigMapVolumeSource", "name"),
    ("LocalObjectReference", "name"),
    ("SecretEnvSource", "name"),
    ("SecretKeySelector", "name"),
    ("SecretProjection", "name"),
    ("Event", "eventTime"),
];

/// What a JSON schema says of a type, in the words of the table's types.
fn shape_of_schema(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return shape_of_reference(reference.trim_start_matches("#/definitions/"));
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return shape_of_schema(&parts[0]);
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("object"), _) if schema.get("additionalProperties").is_some() => {
            format!("map<{}>", shape_of_schema(&schema["additionalProperties"]))
        }
        (Some("array"), _) => format!("list<{}>", shape_of_schema(&schema["items"])),
        (Some(ty), Some(format)) => format!("{ty}/{format}"),
        (Some(ty), None) => ty.to_owned(),
        (None, _) => "any".to_owned(),
    }
}

fn shape_of_reference(name: &str) -> String {
    match name.rsplit('.').next().expect("a name") {
        "Time" => "string/date-time".to_owned(),
        "MicroTime" => "string/date-time".to_owned(),
        "Quantity" => "string".to_owned(),
        "IntOrString" => "intOrString".to_owned(),
        "RawExtension" => "any".to_owned(),
        "FieldsV1" => "fields".to_owned(),
        _ => name.to_owned(),
    }
}

fn shape_of(ty: FieldType) -> String {
    match ty {
        FieldType::String | FieldType::Duration | FieldType::Quantity => "string".to_owned(),
        FieldType::Int32 => "integer/int32".to_owned(),
        FieldType::Int64 => "integer/int64".to_owned(),
        FieldType::Bool => "boolean".to_owned(),
        FieldType::Bytes => "string/byte".to_owned(),
        FieldType::Time | FieldType::MicroTime => "string/date-time".to_owned(),
        FieldType::IntOrString => "intOrString".to_owned(),
        FieldType::Any => "any".to_owned(),
        FieldType::FieldSet => "fields".to_owned(),
        FieldType::Message(id) => id.resolve().openapi_name(),
        FieldType::List(element) | FieldType::Items(element) => format!("list<{}>", shape_of(*element)),
        FieldType::Map(element) => format!("map<{}>", shape_of(*element)),
    }
}

#[test]
fn fields_and_types_equal_those_of_k8s_openapi_in_both_directions() {
    let mut generator = reference();
    let definitions = generator.take_definitions(false);
    assert!(definitions.len() > 200, "only {} definitions", definitions.len());
    let mut compared = 0;
    let mut differences = Vec::new();
    for (name, schema) in &definitions {
        let Some(properties) = schema["properties"].as_object() else { continue };
        let Some(ty) = all().iter().find(|ty| ty.openapi_name() == *name) else {
            differences.push(format!("{name} is missing"));
            continue;
        };
        compared += 1;
        let theirs: BTreeSet<_> =
            properties.iter().map(|(name, schema)| (name.clone(), shape_of_schema(schema))).collect();
        let ours: BTreeSet<_> = ty.fields.iter().map(|field| (field.name.to_owned(), shape_of(field.ty))).collect();
        differences.extend(theirs.symmetric_difference(&ours).map(|(field, shape)| format!("{name}.{field}: {shape}")));
        let none = Vec::new();
        let required = schema.get("required").and_then(Value::as_array).unwrap_or(&none);
        let theirs: BTreeSet<&str> = required.iter().filter_map(Value::as_str).collect();
        let ours: BTreeSet<&str> = ty.fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
        let disputed = |field: &str| DISPUTED.contains(&(ty.name, field)) || field == "metadata";
        let differing = theirs.symmetric_difference(&ours).filter(|field| !disputed(field));
        differences.extend(differing.map(|field| format!("{name}.{field}: required differs")));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared > 200, "only {compared} types compared");
}

#[test]
fn the_table_has_no_type_that_nothing_refers_to() {
    let mut generator = reference();
    let known: BTreeSet<String> = generator.take_definitions(false).keys().cloned().collect();
    let inlined: BTreeSet<String> =
        all().iter().flat_map(|ty| &ty.inlined).map(|(_, id)| id.resolve().openapi_name()).collect();
    let strange: Vec<String> = all()
        .iter()
        .filter(|ty| !["metrics.v1beta1", "drover.v1alpha1"].contains(&ty.package.name) && !ty.name.ends_with("List"))
        .map(Type::openapi_name)
        .filter(|name| !known.contains(name) && !inlined.contains(name))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn field_numbers_are_unique_within_the_type_that_declares_them() {
    for ty in all() {
        let mut seen = BTreeSet::new();
        let own = ty.fields.iter().filter(|field| !field.is_inlined && field.number > 0).map(|field| field.number);
        for number in own.chain(ty.inlined.iter().map(|(number, _)| *number)) {
            assert!(seen.insert(number), "{} has {number} twice", ty.openapi_name());
        }
    }
}

#[test]
fn merge_keys_are_fields_of_the_items_they_merge() {
    for ty in all() {
        for field in &ty.fields {
            let Merge::By(key) = field.merge else { continue };
            let Some(FieldType::Message(item)) = field.ty.element() else { panic!("{}.{}", ty.name, field.name) };
            assert!(item.resolve().field(key).is_some(), "{}.{} merges by {key}", ty.name, field.name);
        }
    }
}

#[test]
fn a_few_facts_that_patches_rest_on() {
    let field = |ty: &str, name: &str| *by_name(ty).unwrap().field(name).unwrap();
    assert_eq!(field("core.v1.PodSpec", "containers").merge, Merge::By("name"));
    assert_eq!(field("core.v1.ServiceSpec", "ports").merge, Merge::By("port"));
    assert_eq!(field("core.v1.ServiceSpec", "ports").list, ListType::Map(&["port", "protocol"]));
    assert_eq!(field("meta.v1.ObjectMeta", "finalizers").merge, Merge::Scalars);
    assert!(field("apps.v1.DeploymentSpec", "strategy").retain_keys);
    assert!(field("core.v1.PodSpec", "volumes").retain_keys);
    assert!(field("core.v1.Volume", "emptyDir").is_inlined);
    assert!(by_name("core.v1.Volume").unwrap().field("EmptyDir").is_none());
}

#[test]
fn a_malformed_line_is_refused() {
    for source in ["type A\n", "package a b c\ntype A\n  x y string\n", "package a b c\ntype A\n  1 y Nothing\n"] {
        assert!(parse::parse(&[source]).is_err(), "{source:?}");
    }
}
