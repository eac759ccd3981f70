use super::*;

/// Computes the patch of a Deployment's spec.
fn check(original: Value, modified: Value, current: Value, patch: Value, result: Value) {
    let wrap = |spec: &Value| if spec.is_null() { json!({}) } else { json!({ "spec": spec }) };
    let (original, modified, current) = (wrap(&original), wrap(&modified), wrap(&current));
    let computed = three_way_strategic(deployment(), &original, &modified, &current).unwrap();
    let expected = if patch == json!({}) { json!({}) } else { json!({ "spec": patch }) };
    assert_eq!(computed, expected);
    assert_eq!(strategic_merge(deployment(), &current, &computed).unwrap(), wrap(&result));
}

fn template(spec: Value) -> Value {
    json!({"template": {"spec": spec}})
}

#[test]
fn what_was_applied_is_changed_and_what_others_set_stays() {
    check(
        json!({"replicas": 1, "paused": true}),
        json!({"replicas": 2}),
        json!({"replicas": 1, "paused": true, "revisionHistoryLimit": 10}),
        json!({"replicas": 2, "paused": null}),
        json!({"replicas": 2, "revisionHistoryLimit": 10}),
    );
}

#[test]
fn nothing_to_do_is_an_empty_patch() {
    let spec = json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "args": ["x"]}]}}});
    let mut live = spec.clone();
    live["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    live["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
    check(spec.clone(), spec, live.clone(), json!({}), live);
}

#[test]
fn a_container_that_is_no_longer_applied_is_deleted_and_an_injected_one_stays() {
    check(
        template(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        template(json!({"containers": [{"name": "a", "image": "a:2"}]})),
        template(json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b"}, {"name": "injected"}]})),
        template(json!({
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "image": "a:2"}, {"$patch": "delete", "name": "b"}],
        })),
        template(json!({"containers": [{"name": "a", "image": "a:2"}, {"name": "injected"}]})),
    );
}

#[test]
fn a_change_of_order_alone_is_sent() {
    check(
        template(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        template(json!({"containers": [{"name": "b"}, {"name": "a"}]})),
        template(json!({"containers": [{"name": "a"}, {"name": "b"}]})),
        template(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})),
        template(json!({"containers": [{"name": "b"}, {"name": "a"}]})),
    );
}

#[test]
fn the_member_of_a_union_is_switched() {
    check(
        template(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        template(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
        template(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        template(json!({
            "$setElementOrder/volumes": [{"name": "v"}],
            "volumes": [{"$retainKeys": ["hostPath", "name"], "emptyDir": null, "hostPath": {"path": "/x"}, "name": "v"}],
        })),
        template(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
    );
    check(
        Value::Null,
        json!({"strategy": {"type": "Recreate"}}),
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}}),
        json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
        json!({"strategy": {"type": "Recreate"}}),
    );
}

#[test]
fn finalizers_are_added_and_removed_one_by_one() {
    let meta = |list: &[&str]| json!({"metadata": {"finalizers": list}});
    let patch = three_way_strategic(deployment(), &meta(&["a", "b"]), &meta(&["b", "c"]), &meta(&["a", "b", "theirs"]))
        .unwrap();
    assert_eq!(
        patch,
        json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b", "c"], "finalizers": ["c"]}})
    );
    let result = strategic_merge(deployment(), &meta(&["a", "b", "theirs"]), &patch).unwrap();
    assert_eq!(result, meta(&["b", "c", "theirs"]));
}

#[test]
fn ports_that_share_a_number_are_replaced_together() {
    let service = kind("v1", "Service");
    let ports = |list: Value| json!({"spec": {"ports": list}});
    let tcp = json!({"name": "tcp", "port": 53, "protocol": "TCP"});
    let udp = json!({"name": "udp", "port": 53, "protocol": "UDP"});
    let (old, new) = (ports(json!([tcp])), ports(json!([tcp, udp])));
    let patch = three_way_strategic(service, &old, &new, &old).unwrap();
    assert_eq!(strategic_merge(service, &old, &patch).unwrap(), new);
    assert_eq!(three_way_strategic(service, &new, &new, &new).unwrap(), json!({}));
}

/// What kubectl 1.32 sent for these three documents, recorded on a socket.
#[test]
fn the_patch_is_the_one_that_kubectl_computes() {
    check(
        json!({"replicas": 1, "paused": true, "template": {"spec": {
            "containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b"}]}}}),
        json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {
            "containers": [{"name": "a", "image": "a:2"}, {"name": "new", "image": "n:1"}],
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}}),
        json!({"replicas": 1, "paused": true, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {
            "containers": [{"name": "a", "image": "a:1", "imagePullPolicy": "Always"}, {"name": "b", "image": "b"},
                {"name": "side", "image": "s"}],
            "volumes": [{"name": "v", "emptyDir": {}}]}}}),
        json!({"paused": null, "replicas": 2, "template": {"spec": {
            "$setElementOrder/containers": [{"name": "a"}, {"name": "new"}],
            "$setElementOrder/volumes": [{"name": "v"}],
            "containers": [{"image": "a:2", "name": "a"}, {"image": "n:1", "name": "new"}, {"$patch": "delete", "name": "b"}],
            "volumes": [{"$retainKeys": ["hostPath", "name"], "hostPath": {"path": "/x"}, "name": "v"}]}}}),
        json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {
            "containers": [{"name": "a", "image": "a:2", "imagePullPolicy": "Always"}, {"name": "new", "image": "n:1"},
                {"name": "side", "image": "s"}],
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}}),
    );
}

#[test]
fn an_item_without_its_merge_key_is_refused() {
    let bad = json!({"spec": template(json!({"containers": [{"image": "x"}]}))});
    let live = json!({"spec": template(json!({"containers": [{"name": "x"}]}))});
    let error = three_way_strategic(deployment(), &Value::Null, &bad, &live).unwrap_err();
    assert_eq!(error.code, 400);
    assert!(three_way_strategic(deployment(), &Value::Null, &json!([]), &live).is_err());
}

#[test]
fn without_a_schema_lists_are_replaced() {
    let patch = three_way_merge(
        &json!({"a": 1, "l": [{"name": "a"}]}),
        &json!({"l": [{"name": "b"}]}),
        &json!({"a": 1, "x": 1, "l": [{"name": "a"}]}),
    );
    assert_eq!(patch, json!({"a": null, "l": [{"name": "b"}]}));
}
