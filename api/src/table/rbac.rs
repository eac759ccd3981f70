//! Roles and their bindings.

use serde_json::Value;

use super::{
    age,
    column::{AGE, NAME, Printer, items, text, wide},
};
use crate::object::{self, str_at};

pub(super) const ROLE: Printer =
    Printer { columns: &[NAME, text("Created At", "When the role was created.")], cells: role };

pub(super) const BINDING: Printer = Printer {
    columns: &[
        NAME,
        text("Role", "The role that is granted."),
        AGE,
        wide("Users", "The users who get it."),
        wide("Groups", "The groups whose members get it."),
        wide("ServiceAccounts", "The service accounts that get it."),
    ],
    cells: binding,
};

fn role(object: &Value, _now_secs: i64) -> Vec<Value> {
    vec![object::name(object).into(), str_at(object, &["metadata", "creationTimestamp"]).into()]
}

fn binding(object: &Value, now_secs: i64) -> Vec<Value> {
    let role = format!("{}/{}", str_at(object, &["roleRef", "kind"]), str_at(object, &["roleRef", "name"]));
    let subjects = |kind: &str| {
        let of_kind = items(object, &["subjects"]).iter().filter(|subject| str_at(subject, &["kind"]) == kind);
        let names: Vec<String> = of_kind
            .map(|subject| match (kind, str_at(subject, &["namespace"]), str_at(subject, &["name"])) {
                ("ServiceAccount", namespace, name) => format!("{namespace}/{name}"),
                (_, _, name) => name.to_owned(),
            })
            .collect();
        names.join(", ")
    };
    vec![
        object::name(object).into(),
        role.into(),
        age::of(object, now_secs).into(),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}
