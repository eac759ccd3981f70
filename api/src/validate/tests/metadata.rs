//! Metadata of any kind, with Pods as the example.

use super::*;

fn check_pod(object: Value, wanted: Expect) {
    check("v1", "Pod", object, wanted);
}

#[test]
fn metadata_is_checked() {
    check_pod(
        json!({"metadata": {"name": "../../x", "labels": {"a b": "-c"}, "annotations": {"x/y/z": ""},
            "ownerReferences": [{"kind": "K", "name": "n", "uid": "u", "controller": true},
                {"apiVersion": "v1", "kind": "K", "name": "m", "uid": "u", "controller": true}],
            "finalizers": ["bad one"]},
            "spec": {"containers": [{"name": "a", "image": "x"}]}}),
        expect![[r#"
            FieldValueInvalid metadata.name: Invalid value: "../../x": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueInvalid metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            FieldValueInvalid metadata.labels: Invalid value: "-c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            FieldValueInvalid metadata.annotations: Invalid value: "x/y/z": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
            FieldValueInvalid metadata.ownerReferences[0].apiVersion: Invalid value: "": version must not be empty
            FieldValueInvalid metadata.ownerReferences: Invalid value: [{"controller":true,"kind":"K","name":"n","uid":"u"},{"apiVersion":"v1","controller":true,"kind":"K","name":"m","uid":"u"}]: Only one reference can have Controller set to true. Found "true" in references for n and m
            FieldValueInvalid metadata.finalizers: Invalid value: "bad one": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            FieldValueInvalid metadata.finalizers[0]: Invalid value: "bad one": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
    check_pod(
        json!({"metadata": {"name": "", "namespace": ""}, "spec": {"containers": [{"name": "a", "image": "x"}]}}),
        expect![[r#"
            FieldValueRequired metadata.name: Required value: name or generateName is required
            FieldValueRequired metadata.namespace: Required value
        "#]],
    );
    let big = json!({"metadata": {"annotations": {"a": "x".repeat(256 * 1024)}}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    check_pod(
        big,
        expect![[r#"
        FieldValueTooLong metadata.annotations: Too long: may not be more than 262144 bytes
    "#]],
    );
}

#[test]
fn identity_never_changes() {
    let object = |metadata: Value| json!({"metadata": metadata, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    check_update(
        "v1",
        "Pod",
        object(
            json!({"uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2, "deletionTimestamp": "2026-01-02T00:00:00Z"}),
        ),
        object(
            json!({"name": "y", "uid": "2", "creationTimestamp": "2026-01-03T00:00:00Z", "generation": 1, "finalizers": ["a.b/c"]}),
        ),
        expect![[r#"
            FieldValueForbidden metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers ["a.b/c"]
            FieldValueInvalid metadata.generation: Invalid value: 1: must not be decremented
            FieldValueInvalid metadata.name: Invalid value: "y": field is immutable
            FieldValueInvalid metadata.uid: Invalid value: "2": field is immutable
            FieldValueInvalid metadata.creationTimestamp: Invalid value: "2026-01-03T00:00:00Z": field is immutable
        "#]],
    );
    check_update(
        "v1",
        "Pod",
        object(json!({"uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"})),
        object(json!({})),
        expect![[r#""#]],
    );
}

#[test]
fn showing_huge_values_costs_little() {
    let owner = json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": true});
    let owners: Vec<Value> = (0..30_000).map(|_| owner.clone()).collect();
    let kind = kind("v1", "ConfigMap");
    let list = create(kind, &completed(kind, json!({"metadata": {"ownerReferences": owners}})));
    assert_eq!(list.len(), 100);
    assert!(list.iter().all(|error| error.message.len() < 5_000));
}
