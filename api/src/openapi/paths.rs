//! `paths`: the operations of every resource and subresource.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{root_path, schemas::reference};
use crate::{
    kinds::{Kind, Subresource},
    schema,
};

/// The patches that the server applies. kubectl takes the presence of the strategic one as leave to send it.
const PATCH_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

const DELETE_OPTIONS: &str = "meta.v1.DeleteOptions";
const STATUS: &str = "meta.v1.Status";

type Parameter = (&'static str, &'static str);

const WRITE: &[Parameter] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];

const DELETE: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

/// Adds the paths of a kind, and the types that their bodies are of.
pub(super) fn add(kind: &'static Kind, paths: &mut Map<String, Value>, types: &mut BTreeSet<String>) {
    let root = root_path(kind.group, kind.version);
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{root}{scope}/{}", kind.plural);
    let mut builder = Builder { kind, subresource: None, types };
    if kind.namespaced && kind.verbs.contains(&"list") {
        let item = builder.path(&[], "ForAllNamespaces", &["list"]);
        paths.insert(format!("/{root}/{}", kind.plural), item);
    }
    let namespace: &[&str] = if kind.namespaced { &["namespace"] } else { &[] };
    let item = builder.path(namespace, "", &["list", "create", "deletecollection"]);
    paths.insert(collection.clone(), item);
    let names: &[&str] = if kind.namespaced { &["name", "namespace"] } else { &["name"] };
    if kind.verbs.contains(&"get") {
        let item = builder.path(names, "", &["get", "update", "patch", "delete"]);
        paths.insert(format!("{collection}/{{name}}"), item);
    }
    for subresource in kind.subresources.iter().filter_map(|name| kind.subresource(name)) {
        builder.subresource = Some(subresource);
        let item = builder.path(names, "", &["get", "create", "update", "patch"]);
        paths.insert(format!("{collection}/{{name}}/{}", subresource.name), item);
    }
}

struct Builder<'a> {
    kind: &'static Kind,
    subresource: Option<Subresource>,
    types: &'a mut BTreeSet<String>,
}

impl Builder<'_> {
    fn path(&mut self, names: &[&str], suffix: &str, verbs: &[&'static str]) -> Value {
        let served = self.subresource.map_or(self.kind.verbs, |subresource| subresource.verbs);
        let mut item = Map::new();
        for verb in verbs.iter().filter(|verb| served.contains(*verb)) {
            let (method, operation) = self.operation(verb, suffix);
            item.insert(method.to_owned(), operation);
        }
        let in_path = |name: &&str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
        if !names.is_empty() {
            item.insert("parameters".to_owned(), names.iter().map(in_path).collect());
        }
        Value::Object(item)
    }

    fn operation(&mut self, verb: &'static str, suffix: &str) -> (&'static str, Value) {
        let object = self.subresource.map_or(Some(self.kind.type_name), |subresource| subresource.type_name);
        let list = format!("{}List", self.kind.type_name);
        let (method, action, parameters, body, answer) = match verb {
            "list" => ("get", "list", LIST, None, Some(list.as_str())),
            "get" => ("get", "get", &[][..], None, object),
            "create" => ("post", "post", WRITE, object, object),
            "update" => ("put", "put", WRITE, object, object),
            "patch" => ("patch", "patch", WRITE, None, object),
            "deletecollection" => ("delete", "deletecollection", DELETE, Some(DELETE_OPTIONS), Some(STATUS)),
            // The only verb left.
            _ => ("delete", "delete", DELETE, Some(DELETE_OPTIONS), Some(STATUS)),
        };
        let mut operation = json!({
            "operationId": self.operation_id(verb, suffix),
            "responses": {"200": self.answer(answer)},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.group_version_kind(),
        });
        if !parameters.is_empty() {
            let query = |(name, ty): &Parameter| json!({"name": name, "in": "query", "schema": {"type": ty}});
            operation["parameters"] = parameters.iter().map(query).collect();
        }
        if verb == "patch" {
            let content: Map<String, Value> =
                PATCH_TYPES.iter().map(|media| ((*media).to_owned(), json!({"schema": {"type": "object"}}))).collect();
            operation["requestBody"] = json!({"content": content, "required": true});
        } else if let Some(body) = body {
            operation["requestBody"] = json!({"content": {"*/*": {"schema": self.use_type(body)}}});
        }
        (method, operation)
    }

    fn answer(&mut self, type_name: Option<&str>) -> Value {
        match type_name {
            Some(name) => {
                json!({"description": "OK", "content": {"application/json": {"schema": self.use_type(name)}}})
            }
            None => json!({"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}}),
        }
    }

    fn use_type(&mut self, name: &str) -> Value {
        self.types.insert(name.to_owned());
        schema::by_name(name).map_or_else(|| json!({"type": "object"}), |ty| reference(&ty.openapi_name()))
    }

    fn group_version_kind(&self) -> Value {
        match self.subresource {
            Some(sub) => json!({"group": sub.group, "version": sub.version, "kind": sub.kind}),
            None => json!({"group": self.kind.group, "version": self.kind.version, "kind": self.kind.kind}),
        }
    }

    /// Returns `patchAppsV1NamespacedDeploymentStatus`: unique within all documents.
    fn operation_id(&self, verb: &str, suffix: &str) -> String {
        let group = self.kind.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
        let scope = if self.kind.namespaced && suffix.is_empty() { "Namespaced" } else { "" };
        let subresource = self.subresource.map(|subresource| capital(subresource.name)).unwrap_or_default();
        let (group, version) = (capital(group), capital(self.kind.version));
        format!("{verb}{group}{version}{scope}{}{subresource}{suffix}", self.kind.kind)
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
