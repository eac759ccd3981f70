//! `components.schemas`: the types of the table that a document needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    kinds,
    schema::{self, Field, FieldType, ListType, Merge, Type},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Returns the schemas of these types and of all that they refer to.
pub(super) fn reachable_from(roots: &BTreeSet<String>) -> Map<String, Value> {
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    let mut open: Vec<&'static Type> = roots.iter().filter_map(|name| schema::by_name(name)).collect();
    while let Some(ty) = open.pop() {
        let name = ty.openapi_name();
        if found.contains_key(&name) {
            continue;
        }
        found.insert(name, of_type(ty));
        for field in &ty.fields {
            visit(field.ty, &mut found, &mut open);
        }
    }
    found.into_iter().collect()
}

fn visit(ty: FieldType, found: &mut BTreeMap<String, Value>, open: &mut Vec<&'static Type>) {
    if let Some((name, schema)) = shared_scalar(ty) {
        found.entry(name).or_insert(schema);
    }
    if let FieldType::Message(id) = ty {
        open.push(id.resolve());
    }
    if let Some(element) = ty.element() {
        visit(element, found, open);
    }
}

fn of_type(ty: &Type) -> Value {
    let properties: Map<String, Value> =
        ty.fields.iter().map(|field| (field.name.to_owned(), of_field(field))).collect();
    let mut schema = json!({"type": "object"});
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    let required: Vec<&str> = ty.fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if ty.is_atomic {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    if ty.is_object {
        schema["x-kubernetes-group-version-kind"] = group_version_kinds(ty);
    }
    schema
}

fn group_version_kinds(ty: &Type) -> Value {
    let entry = |group: &str, version: &str| json!({"group": group, "version": version, "kind": ty.name});
    if ty.name == "DeleteOptions" {
        // Every group and version has it.
        return kinds::group_versions().into_iter().map(|(group, version)| entry(group, version)).collect();
    }
    let (group, version) = ty.package.api_version.split_once('/').unwrap_or(("", ty.package.api_version));
    json!([entry(group, version)])
}

fn of_field(field: &Field) -> Value {
    let mut schema = of_field_type(field.ty);
    let extensions = extensions(field);
    if extensions.is_empty() {
        return schema;
    }
    if schema.get("$ref").is_some() {
        // Nothing may stand beside a reference.
        schema = json!({"allOf": [schema]});
    }
    for (name, value) in extensions {
        schema[name] = value;
    }
    schema
}

fn extensions(field: &Field) -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    let is_list = matches!(field.ty, FieldType::List(_) | FieldType::Items(_));
    match field.list {
        ListType::Unstated => {}
        ListType::Atomic if is_list => found.push(("x-kubernetes-list-type", json!("atomic"))),
        ListType::Atomic => found.push(("x-kubernetes-map-type", json!("atomic"))),
        ListType::Granular => found.push(("x-kubernetes-map-type", json!("granular"))),
        ListType::Set => found.push(("x-kubernetes-list-type", json!("set"))),
        ListType::Map(keys) => {
            found.push(("x-kubernetes-list-type", json!("map")));
            found.push(("x-kubernetes-list-map-keys", json!(keys)));
        }
    }
    let mut strategies = Vec::new();
    if field.merge != Merge::Never {
        strategies.push("merge");
    }
    if field.retain_keys {
        strategies.push("retainKeys");
    }
    if field.replace {
        strategies.push("replace");
    }
    if !strategies.is_empty() {
        found.push(("x-kubernetes-patch-strategy", json!(strategies.join(","))));
    }
    if let Merge::By(key) = field.merge {
        found.push(("x-kubernetes-patch-merge-key", json!(key)));
    }
    found
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn of_field_type(ty: FieldType) -> Value {
    if let Some((name, _)) = shared_scalar(ty) {
        return reference(&name);
    }
    match ty {
        FieldType::String => json!({"type": "string"}),
        FieldType::Int32 => json!({"type": "integer", "format": "int32"}),
        FieldType::Int64 => json!({"type": "integer", "format": "int64"}),
        FieldType::Bool => json!({"type": "boolean"}),
        FieldType::Bytes => json!({"type": "string", "format": "byte"}),
        FieldType::Message(id) => reference(&id.resolve().openapi_name()),
        FieldType::List(element) | FieldType::Items(element) => {
            json!({"type": "array", "items": of_field_type(*element)})
        }
        FieldType::Map(element) => json!({"type": "object", "additionalProperties": of_field_type(*element)}),
        FieldType::Time
        | FieldType::MicroTime
        | FieldType::Duration
        | FieldType::Quantity
        | FieldType::IntOrString
        | FieldType::Any
        | FieldType::FieldSet => json!({}),
    }
}

/// The scalars that documents refer to by name.
fn shared_scalar(ty: FieldType) -> Option<(String, Value)> {
    let (name, schema) = match ty {
        FieldType::Time => (format!("{META}.Time"), json!({"type": "string", "format": "date-time"})),
        FieldType::MicroTime => (format!("{META}.MicroTime"), json!({"type": "string", "format": "date-time"})),
        FieldType::Duration => (format!("{META}.Duration"), json!({"type": "string"})),
        FieldType::FieldSet => (format!("{META}.FieldsV1"), json!({"type": "object"})),
        FieldType::Quantity => (
            "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ),
        FieldType::IntOrString => (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        FieldType::Any => ("io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(), json!({"type": "object"})),
        FieldType::String
        | FieldType::Int32
        | FieldType::Int64
        | FieldType::Bool
        | FieldType::Bytes
        | FieldType::Message(_)
        | FieldType::List(_)
        | FieldType::Map(_)
        | FieldType::Items(_) => return None,
    };
    Some((name, schema))
}
