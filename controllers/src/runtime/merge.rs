//! JSON merge patches (RFC 7386) computed from two versions of an object: the smallest write, or none.

use serde_json::{Map, Value};

/// Returns the patch that turns `before` into `after`, or `None` when nothing differs.
pub fn merge_patch(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for (name, new) in after {
                match before.get(name) {
                    Some(old) => {
                        if let Some(change) = merge_patch(old, new) {
                            patch.insert(name.clone(), change);
                        }
                    }
                    None => {
                        patch.insert(name.clone(), new.clone());
                    }
                }
            }
            let removes = !drover_api::mutants::active("W12-removal-not-sent");
            for name in before.keys().filter(|name| !after.contains_key(*name) && removes) {
                patch.insert(name.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ if before == after => None,
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::merge_patch;
    use serde_json::json;

    #[test]
    fn equal_objects_need_no_patch() {
        assert_eq!(merge_patch(&json!({"a": {"b": [1]}}), &json!({"a": {"b": [1]}})), None);
    }

    #[test]
    fn a_patch_names_only_what_changed_and_nulls_what_went() {
        let before = json!({"keep": 1, "gone": 2, "deep": {"x": 1, "y": 2}, "list": [1, 2]});
        let after = json!({"keep": 1, "new": 3, "deep": {"x": 9, "y": 2}, "list": [2]});
        let expected = json!({"gone": null, "new": 3, "deep": {"x": 9}, "list": [2]});
        assert_eq!(merge_patch(&before, &after), Some(expected));
    }
}
