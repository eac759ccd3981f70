use super::*;

fn refusal(object: &Value, patch: &Value) -> ApiError {
    json_patch(object, patch).expect_err("a refusal")
}

#[test]
fn operations_are_applied_in_order() {
    let object = json!({"spec": {"replicas": 1, "list": [1, 2]}});
    let patch = json!([
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "add", "path": "/spec/list/-", "value": 3},
        {"op": "remove", "path": "/spec/list/0"},
        {"op": "copy", "from": "/spec/list", "path": "/copy"},
        {"op": "move", "from": "/spec/replicas", "path": "/a~1b"},
    ]);
    assert_eq!(json_patch(&object, &patch).unwrap(), json!({"spec": {"list": [2, 3]}, "copy": [2, 3], "a/b": 3}));
}

#[test]
fn a_failed_test_or_a_missing_path_is_422() {
    let object = json!({"spec": {"replicas": 1}});
    for operation in [
        json!({"op": "test", "path": "/spec/replicas", "value": 2}),
        json!({"op": "remove", "path": "/spec/nothing"}),
        json!({"op": "replace", "path": "/spec/nothing", "value": 1}),
        json!({"op": "add", "path": "/a/b/c", "value": 1}),
    ] {
        let error = refusal(&object, &json!([operation]));
        assert_eq!((error.code, error.reason), (422, "Invalid"), "{operation}");
        let sentence = "the server rejected our request due to an error in our request: operation 0 of the JSON patch";
        assert!(error.message.starts_with(sentence), "{}", error.message);
    }
}

#[test]
fn a_malformed_patch_is_400() {
    for patch in
        [json!({}), json!([{"op": "frobnicate"}]), json!([{"op": "add", "path": "no-slash", "value": 1}]), json!([1])]
    {
        assert_eq!(refusal(&json!({}), &patch).code, 400, "{patch}");
    }
}

#[test]
fn too_many_operations_are_413() {
    let many = vec![json!({"op": "test", "path": "", "value": {}}); MAX_OPERATIONS + 1];
    let error = refusal(&json!({}), &Value::Array(many));
    assert_eq!(error.code, 413);
    assert!(error.message.contains("allowed maximum operations in a JSON patch is 10000, got 10001"));
}

#[test]
fn a_copy_bomb_is_refused_before_it_fills_the_memory() {
    let mut bomb = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(1000)})];
    for _ in 0..100 {
        bomb.push(json!({"op": "copy", "from": "", "path": "/b"}));
        bomb.push(json!({"op": "move", "from": "/b", "path": "/c"}));
    }
    assert!([413, 422].contains(&refusal(&json!({}), &Value::Array(bomb)).code));
    let mut doubling = vec![json!({"op": "add", "path": "/a", "value": [["x"]]})];
    doubling.extend(std::iter::repeat_n(json!({"op": "copy", "from": "/a/0", "path": "/a/-"}), 9_000));
    doubling.extend(std::iter::repeat_n(json!({"op": "copy", "from": "/a", "path": "/a/0"}), 90));
    assert!([413, 422].contains(&refusal(&json!({}), &Value::Array(doubling)).code));
}

#[test]
fn a_patch_cannot_nest_deeper_than_a_body() {
    let mut patch = vec![json!({"op": "add", "path": "/a", "value": {"b": {}}})];
    let mut levels = 1;
    while levels < 200 {
        patch.push(json!({"op": "copy", "from": "/a", "path": format!("/a{}", "/b".repeat(levels + 1))}));
        levels = levels * 2 + 1;
    }
    let error = refusal(&json!({}), &Value::Array(patch));
    assert!(error.message.contains("nest deeper than 100 levels"), "{}", error.message);
}

#[test]
fn a_result_larger_than_a_request_is_refused() {
    let object = json!({"a": "x".repeat(2_000_000)});
    let error = refusal(&object, &json!([{"op": "copy", "from": "/a", "path": "/b"}]));
    assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
}

#[test]
fn many_inserts_at_the_front_of_a_long_list_are_refused_in_time() {
    let object = json!({"list": vec![0; 500_000]});
    let patch = vec![json!({"op": "add", "path": "/list/0", "value": 1}); 10_000];
    assert_eq!(refusal(&object, &Value::Array(patch)).code, 413);
}
