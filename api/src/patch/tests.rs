#![expect(clippy::needless_pass_by_value, reason = "tables of literals read best without ampersands")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds;

mod json_patch_cases;
mod properties;
mod strategic_cases;
mod three_way_cases;

fn kind(api_version: &str, name: &str) -> &'static Kind {
    kinds::by_gvk(api_version, name).expect("a served kind")
}

fn deployment() -> &'static Kind {
    kind("apps/v1", "Deployment")
}

/// A Pod with this spec.
fn pod(spec: Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn a_merge_patch_follows_rfc_7396() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (object, patch, expected) in table {
        assert_eq!(merge_patch(&object, &patch), expected, "{object} patched with {patch}");
    }
}
