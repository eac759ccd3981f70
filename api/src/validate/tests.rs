#![expect(clippy::needless_pass_by_value, reason = "cases read better as plain values")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    defaults::{self, arbitrary},
    kinds,
};

mod accepted;
mod metadata;
mod network;
mod objects;
mod pods;
mod workloads;

fn kind(api_version: &str, name: &str) -> &'static Kind {
    kinds::by_gvk(api_version, name).unwrap_or_else(|| panic!("{api_version} {name} is not served"))
}

fn lines(errors: &[FieldError]) -> String {
    errors.iter().fold(String::new(), |mut text, error| {
        let FieldError { reason, field, message } = error;
        writeln!(text, "{reason} {field}: {message}").expect("writing to a string cannot fail");
        text
    })
}

/// Completes an object with a name, a namespace and its defaults.
fn completed(kind: &Kind, mut object: Value) -> Value {
    let mut metadata = json!({"name": "x"});
    if kind.namespaced {
        metadata["namespace"] = "default".into();
    }
    if let Some(given) = object["metadata"].as_object() {
        for (field, value) in given {
            metadata[field] = value.clone();
        }
    }
    object["metadata"] = metadata;
    defaults::apply(kind, &mut object);
    object
}

/// Checks the errors of creating an object.
fn check(api_version: &str, name: &str, object: Value, wanted: Expect) {
    let kind = kind(api_version, name);
    wanted.assert_eq(&lines(&create(kind, &completed(kind, object))));
}

/// Checks the errors of changing one object into another.
fn check_update(api_version: &str, name: &str, old: Value, new: Value, wanted: Expect) {
    let kind = kind(api_version, name);
    wanted.assert_eq(&lines(&update(kind, &completed(kind, new), &completed(kind, old))));
}

proptest! {
    #[test]
    fn validation_is_total_and_bounded(object in arbitrary::arb_json(), old in arbitrary::arb_json()) {
        for kind in kinds::all() {
            for list in [create(kind, &object), update(kind, &object, &old), update_status(kind, &object, &old)] {
                prop_assert!(list.len() <= 100);
            }
        }
    }

    #[test]
    fn an_unchanged_object_gets_no_errors_beyond_those_of_creation(object in arbitrary::arb_json()) {
        for kind in kinds::all() {
            let object = completed(kind, if object.is_object() { object.clone() } else { json!({}) });
            let created = create(kind, &object);
            for error in update(kind, &object, &object) {
                prop_assert!(created.contains(&error), "{}: {}", kind.kind, lines(&[error]));
            }
        }
    }
}
