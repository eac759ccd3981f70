use super::*;

fn patched(kind: &Kind, object: &Value, patch: &Value) -> Value {
    strategic_merge(kind, object, patch).unwrap_or_else(|error| panic!("{}", error.message))
}

fn refused(kind: &Kind, object: &Value, patch: &Value) -> String {
    let error = strategic_merge(kind, object, patch).expect_err("a refusal");
    assert_eq!(error.code, 400);
    error.message
}

/// Patches the spec of a Pod.
fn check(spec: Value, patch: Value, expected: Value) {
    let shown = format!("{spec} patched with {patch}");
    assert_eq!(patched(kind("v1", "Pod"), &pod(spec), &pod(patch)), pod(expected), "{shown}");
}

#[test]
fn objects_are_merged_and_null_deletes() {
    check(
        json!({"nodeSelector": {"a": "1", "b": "2"}, "hostNetwork": true}),
        json!({"nodeSelector": {"a": null, "c": "3"}, "hostNetwork": null, "nodeName": "n", "dnsPolicy": null}),
        json!({"nodeSelector": {"b": "2", "c": "3"}, "nodeName": "n"}),
    );
}

#[test]
fn lists_with_a_merge_key_are_merged_item_by_item() {
    check(
        json!({"containers": [{"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:1"}]}),
        json!({"containers": [{"name": "b", "image": "b:2"}, {"name": "a", "args": ["y"]}, {"name": "c"}]}),
        json!({"containers": [
            {"name": "b", "image": "b:2"}, {"name": "a", "image": "a:1", "args": ["y"]}, {"name": "c"}]}),
    );
}

#[test]
fn items_that_only_the_cluster_knows_keep_their_place() {
    check(
        json!({"containers": [{"name": "injected"}, {"name": "a"}]}),
        json!({"containers": [{"name": "a", "image": "a:2"}]}),
        json!({"containers": [{"name": "injected"}, {"name": "a", "image": "a:2"}]}),
    );
}

#[test]
fn a_delete_directive_removes_an_item() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "gone", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
}

#[test]
fn a_replace_directive_replaces_a_list_or_an_object() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    check(
        json!({"nodeSelector": {"a": "1"}, "nodeName": "n"}),
        json!({"nodeSelector": {"$patch": "replace", "b": "2"}}),
        json!({"nodeSelector": {"b": "2"}, "nodeName": "n"}),
    );
    check(
        json!({"nodeName": "n"}),
        json!({"nodeSelector": {"$patch": "replace", "b": "2"}}),
        json!({"nodeSelector": {"b": "2"}, "nodeName": "n"}),
    );
}

#[test]
fn the_revision_of_a_rollback_replaces_the_template() {
    let object = json!({"spec": {"replicas": 2, "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"x": 1}}}});
    let revision = json!({"spec": {"template": {"$patch": "replace", "metadata": {"labels": {"b": "1"}}}}});
    let expected = json!({"spec": {"replicas": 2, "template": {"metadata": {"labels": {"b": "1"}}}}});
    assert_eq!(patched(deployment(), &object, &revision), expected);
}

#[test]
fn an_object_directive_can_delete_and_merge() {
    check(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"$patch": "delete"}}),
        json!({"securityContext": {}}),
    );
    check(
        json!({"nodeSelector": {"a": "1"}}),
        json!({"nodeSelector": {"$patch": "merge", "b": "2"}}),
        json!({"nodeSelector": {"a": "1", "b": "2"}}),
    );
}

#[test]
fn sets_of_scalars_are_joined_and_subtracted() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let joined = patched(deployment(), &object, &json!({"metadata": {"finalizers": ["c", "a"]}}));
    assert_eq!(joined["metadata"]["finalizers"], json!(["c", "a", "b"]));
    let less = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "z"]}});
    assert_eq!(patched(deployment(), &object, &less)["metadata"]["finalizers"], json!(["b"]));
    let ordered = json!({"metadata": {"$setElementOrder/finalizers": ["b", "c", "a"], "finalizers": ["c"]}});
    assert_eq!(patched(deployment(), &object, &ordered)["metadata"]["finalizers"], json!(["b", "c", "a"]));
    assert_eq!(patched(deployment(), &json!({}), &less), json!({"metadata": {}}));
}

#[test]
fn lists_without_a_strategy_are_replaced_yet_can_be_subtracted_from() {
    let spec = |args: Value| json!({"containers": [{"name": "a", "args": args}]});
    check(spec(json!(["a", "b"])), spec(json!(["b"])), spec(json!(["b"])));
    check(
        spec(json!(["a", "b"])),
        json!({"containers": [{"name": "a", "$deleteFromPrimitiveList/args": ["a"]}]}),
        spec(json!(["b"])),
    );
}

#[test]
fn the_order_directive_puts_items_in_order() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "side"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}),
        json!({"containers": [{"name": "side"}, {"name": "b"}, {"name": "c"}, {"name": "a"}]}),
    );
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        json!({"containers": [{"name": "b"}, {"name": "a"}]}),
    );
    let object = pod(json!({"containers": [{"name": "a"}]}));
    let wrong = json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]});
    assert!(refused(kind("v1", "Pod"), &object, &pod(wrong)).contains("doesn't match the $setElementOrder list"));
}

#[test]
fn retained_keys_are_all_that_stays() {
    let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(patched(deployment(), &object, &patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    check(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
    let wrong = json!({"spec": {"strategy": {"$retainKeys": ["other"], "type": "Recreate"}}});
    assert_eq!(refused(deployment(), &object, &wrong), "invalid patch format of retainKeys");
}

#[test]
fn a_map_with_the_replace_strategy_is_replaced() {
    let object = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}});
    assert_eq!(patched(kind("policy/v1", "PodDisruptionBudget"), &object, &patch), patch);
}

#[test]
fn service_ports_are_merged_by_port_and_told_apart_by_protocol() {
    let service = kind("v1", "Service");
    let ports = |list: Value| json!({"spec": {"ports": list}});
    let dns = ports(json!([
        {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53, "protocol": "TCP"}]));
    let patch = ports(json!([{"port": 53, "protocol": "TCP", "targetPort": 5353}]));
    let expected = ports(json!([
        {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53, "protocol": "TCP", "targetPort": 5353}]));
    let mut sorted = patched(service, &dns, &patch);
    let list = sorted["spec"]["ports"].as_array_mut().unwrap();
    list.sort_by_key(|port| std::cmp::Reverse(port["protocol"].to_string()));
    assert_eq!(sorted, expected);
    let one = ports(json!([{"port": 80, "protocol": "TCP", "nodePort": 30000}]));
    let changed = patched(service, &one, &ports(json!([{"port": 80, "protocol": "UDP"}])));
    assert_eq!(changed, ports(json!([{"port": 80, "protocol": "UDP", "nodePort": 30000}])));
}

#[test]
fn malformed_patches_are_refused() {
    let object = pod(json!({"containers": [{"name": "a"}], "nodeSelector": {}}));
    let table = [
        (json!({"containers": [{"image": "x"}]}), "does not contain declared merge key: name"),
        (json!({"containers": ["a"]}), "does not contain declared merge key: name"),
        (json!({"containers": [{"name": "a", "$patch": "explode"}]}), "unknown patch type"),
        (json!({"nodeSelector": {"$patch": 1}}), "unknown patch type"),
        (json!({"$setElementOrder/containers": 1}), "must be a list"),
        (json!({"$retainKeys": "x"}), "invalid patch format of retainKeys"),
    ];
    for (patch, expected) in table {
        let message = refused(kind("v1", "Pod"), &object, &pod(patch.clone()));
        assert!(message.contains(expected), "{patch}: {message}");
    }
    assert!(refused(deployment(), &json!({}), &json!([])).contains("is a JSON object"));
}

#[test]
fn new_items_come_without_directives_and_nulls() {
    check(
        json!({}),
        json!({"containers": [{"name": "a", "image": null, "env": [{"name": "E", "$patch": "delete"}, {"name": "F"}]},
            {"$patch": "delete", "name": "b"}], "nodeSelector": {"a": null}}),
        json!({"containers": [{"name": "a", "env": [{"name": "F"}]}], "nodeSelector": {}}),
    );
}

#[test]
fn two_long_lists_are_merged_in_linear_time() {
    let env =
        |value: &str| -> Value { (0..20_000).map(|n| json!({"name": format!("E{n}"), "value": value})).collect() };
    let spec = |value: &str| json!({"containers": [{"name": "a", "env": env(value)}]});
    check(spec("1"), spec("2"), spec("2"));
}
