//! The other kinds.

use super::*;

#[test]
fn config_maps_and_secrets_are_checked() {
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"../a": "x", "b": "x"}, "binaryData": {"b": "eA=="}}),
        expect![[r#"
        FieldValueInvalid data[../a]: Invalid value: "../a": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        FieldValueInvalid data[../a]: Invalid value: "../a": must not start with '..'
        FieldValueInvalid data[b]: Invalid value: "b": duplicate of key present in binaryData
    "#]],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}}),
        expect![[r#"
        FieldValueTooLong []: Too long: may not be more than 1048576 bytes
    "#]],
    );
    check(
        "v1",
        "Secret",
        json!({"stringData": {"a": "x".repeat(1024 * 1024 + 1)}}),
        expect![[r#"
        FieldValueTooLong data: Too long: may not be more than 1048576 bytes
    "#]],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{\"auths\": hunter2"}}),
        expect![[r#"
        FieldValueInvalid data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid JSON at line 1 column 11
    "#]],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}),
        expect![[r#"
        FieldValueRequired data[tls.key]: Required value
    "#]],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/service-account-token"}),
        expect![[r#"
        FieldValueRequired metadata.annotations[kubernetes.io/service-account.name]: Required value
    "#]],
    );
    check_update(
        "v1",
        "Secret",
        json!({"immutable": true, "stringData": {"a": "b"}}),
        json!({"type": "other", "stringData": {"a": "c"}}),
        expect![[r#"
            FieldValueInvalid type: Invalid value: "other": field is immutable
            FieldValueForbidden immutable: Forbidden: field is immutable when `immutable` is set
            FieldValueForbidden data: Forbidden: field is immutable when `immutable` is set
        "#]],
    );
    check_update(
        "v1",
        "ConfigMap",
        json!({"immutable": true, "data": {"a": "b"}}),
        json!({"immutable": true}),
        expect![[r#"
        FieldValueForbidden data: Forbidden: field is immutable when `immutable` is set
    "#]],
    );
}

#[test]
fn volumes_are_checked() {
    check(
        "v1",
        "PersistentVolume",
        json!({"spec": {}}),
        expect![[r#"
        FieldValueRequired spec.accessModes: Required value
        FieldValueRequired spec.capacity: Required value
        FieldValueRequired spec: Required value: must specify a volume type
    "#]],
    );
    let volume = |driver: &str| json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": {"driver": driver, "volumeHandle": "h"}}});
    check("v1", "PersistentVolume", volume("d"), expect![[r#""#]]);
    check(
        "v1",
        "PersistentVolume",
        json!({"spec": {"capacity": {"storage": "0"}, "accessModes": ["Sometimes"], "local": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Burn"}}),
        expect![[r#"
        FieldValueNotSupported spec.accessModes[0]: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
        FieldValueInvalid spec.capacity[storage]: Invalid value: "0": must be greater than zero
        FieldValueNotSupported spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain"
        FieldValueRequired spec.nodeAffinity: Required value: Local volume requires node affinity
    "#]],
    );
    check_update(
        "v1",
        "PersistentVolume",
        volume("d"),
        volume("e"),
        expect![[r#"
        FieldValueForbidden spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
    "#]],
    );
}

#[test]
fn claims_and_classes_are_checked() {
    check(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": {}}),
        expect![[r#"
        FieldValueRequired spec.accessModes: Required value: at least 1 access mode is required
        FieldValueRequired spec.resources[storage]: Required value
    "#]],
    );
    let claim = |size: &str, class: Value| json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    check(
        "v1",
        "PersistentVolumeClaim",
        claim("-1", Value::Null),
        expect![[r#"
        FieldValueInvalid spec.resources.requests.storage: Invalid value: "-1": must be greater than zero
    "#]],
    );
    check_update("v1", "PersistentVolumeClaim", claim("1Gi", "a".into()), claim("2Gi", "a".into()), expect![[r#""#]]);
    check_update("v1", "PersistentVolumeClaim", claim("1Gi", Value::Null), claim("1Gi", "a".into()), expect![[r#""#]]);
    check_update(
        "v1",
        "PersistentVolumeClaim",
        claim("2Gi", "a".into()),
        claim("1Gi", "b".into()),
        expect![[r#"
        FieldValueForbidden spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        FieldValueForbidden spec.resources.requests.storage: Forbidden: field can not be less than status.capacity
    "#]],
    );
    check(
        "storage.k8s.io/v1",
        "StorageClass",
        json!({"reclaimPolicy": "Burn"}),
        expect![[r#"
        FieldValueRequired provisioner: Required value
        FieldValueNotSupported reclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Retain"
    "#]],
    );
    check_update(
        "storage.k8s.io/v1",
        "StorageClass",
        json!({"provisioner": "a"}),
        json!({"provisioner": "b", "parameters": {"a": "b"}, "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer"}),
        expect![[r#"
            FieldValueForbidden parameters: Forbidden: updates to parameters are forbidden.
            FieldValueForbidden provisioner: Forbidden: updates to provisioner are forbidden.
            FieldValueForbidden reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.
            FieldValueInvalid volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable
        "#]],
    );
}

#[test]
fn roles_and_bindings_are_checked() {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    check(
        RBAC,
        "Role",
        json!({"rules": [{}, {"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]}),
        expect![[r#"
        FieldValueRequired rules[0].verbs: Required value: verbs must contain at least one value
        FieldValueRequired rules[0].apiGroups: Required value: resource rules must supply at least one api group
        FieldValueRequired rules[0].resources: Required value: resource rules must supply at least one resource
        FieldValueInvalid rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
        FieldValueInvalid rules[1].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs
    "#]],
    );
    check(
        RBAC,
        "ClusterRole",
        json!({"metadata": {"name": "system:a/b"}, "aggregationRule": {}}),
        expect![[r#"
        FieldValueInvalid metadata.name: Invalid value: "system:a/b": may not contain '/'
        FieldValueRequired aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil
    "#]],
    );
    let binding =
        |role: &str, subjects: Value| json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects});
    check(
        RBAC,
        "ClusterRoleBinding",
        binding("", json!([{"kind": "ServiceAccount", "name": "s"}, {"kind": "Robot"}])),
        expect![[r#"
        FieldValueRequired roleRef.name: Required value
        FieldValueRequired subjects[0].namespace: Required value
        FieldValueRequired subjects[1].name: Required value
        FieldValueNotSupported subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"
    "#]],
    );
    check_update(
        RBAC,
        "RoleBinding",
        binding("a", json!([])),
        binding("b", json!([])),
        expect![[r#"
        FieldValueInvalid roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"b"}: cannot change roleRef
    "#]],
    );
}

#[test]
fn budgets_and_priorities_are_checked() {
    check(
        "policy/v1",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": 1, "maxUnavailable": "200%"}}),
        expect![[r#"
        FieldValueInvalid spec: Invalid value: {"maxUnavailable":"200%","minAvailable":1}: minAvailable and maxUnavailable cannot be both set
        FieldValueInvalid spec.maxUnavailable: Invalid value: "200%": must not be greater than 100%
    "#]],
    );
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"metadata": {"name": "system-mine"}, "value": 1}),
        expect![[r#"
        FieldValueForbidden metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class
    "#]],
    );
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}),
        expect![[r#""#]],
    );
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"value": 1_000_000_001}),
        expect![[r#"
        FieldValueForbidden value: Forbidden: maximum allowed value of a user defined priority is 1000000000
    "#]],
    );
    check_update(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"value": 1}),
        json!({"value": 2}),
        expect![[r#"
        FieldValueForbidden value: Forbidden: may not be changed in an update.
    "#]],
    );
}

#[test]
fn leases_namespaces_and_events_are_checked() {
    check(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
        expect![[r#"
        FieldValueInvalid spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
        FieldValueInvalid spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
    "#]],
    );
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a.b", "namespace": "c"}}),
        expect![[r#"
        FieldValueInvalid metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        FieldValueForbidden metadata.namespace: Forbidden: not allowed on this type
    "#]],
    );
    check(
        "v1",
        "Event",
        json!({"involvedObject": {"namespace": "other"}}),
        expect![[r#"
        FieldValueInvalid involvedObject.namespace: Invalid value: "other": does not match event.namespace
    "#]],
    );
    check(
        "events.k8s.io/v1",
        "Event",
        json!({"type": "Odd", "series": {"count": 1}}),
        expect![[r#"
        FieldValueRequired eventTime: Required value
        FieldValueRequired reportingController: Required value
        FieldValueRequired reportingInstance: Required value
        FieldValueRequired action: Required value
        FieldValueRequired reason: Required value
        FieldValueInvalid type: Invalid value: "": has invalid value: Odd
        FieldValueInvalid series.count: Invalid value: "": should be at least 2
        FieldValueRequired series.lastObservedTime: Required value
    "#]],
    );
    check(
        "apps/v1",
        "ControllerRevision",
        json!({"revision": -1}),
        expect![[r#"
        FieldValueRequired data: Required value: data is mandatory
        FieldValueInvalid revision: Invalid value: -1: must be greater than or equal to 0
    "#]],
    );
}

#[test]
fn nodes_are_checked() {
    check(
        "v1",
        "Node",
        json!({"spec": {"podCIDR": "10.0.0.0/33", "taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}, {"key": "b"}]},
            "status": {"capacity": {"cpu": "-1"}}}),
        expect![[r#"
            FieldValueDuplicate spec.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"a"}: taints must be unique by key and effect pair
            FieldValueRequired spec.taints[2].effect: Required value
            FieldValueInvalid status.capacity[cpu]: Invalid value: "-1": must be greater than or equal to 0
            FieldValueInvalid status.allocatable[cpu]: Invalid value: "-1": must be greater than or equal to 0
            FieldValueInvalid spec.podCIDR: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]],
    );
    let node = |spec: Value| json!({"spec": spec});
    check_update(
        "v1",
        "Node",
        node(json!({})),
        node(json!({"podCIDR": "10.0.0.0/22", "unschedulable": true})),
        expect![[r#""#]],
    );
    check_update(
        "v1",
        "Node",
        node(json!({"podCIDR": "10.0.0.0/22"})),
        node(json!({"podCIDR": "10.0.4.0/22", "externalID": "x"})),
        expect![[r#"
        FieldValueForbidden spec.podCIDR: Forbidden: node updates may not change podCIDR except from "" to valid
        FieldValueForbidden spec: Forbidden: node updates may only change labels, taints, or capacity
    "#]],
    );
}

#[test]
fn amounts_beyond_any_are_refused() {
    check(
        "v1",
        "Node",
        json!({"status": {"capacity": {"cpu": "9223372036854775808"}, "allocatable": {"memory": "1e400"}}}),
        expect![[r#"
            FieldValueInvalid status.capacity[cpu]: Invalid value: "9223372036854775808": must be less than or equal to 1152921504606846976
            FieldValueInvalid status.allocatable[memory]: Invalid value: "21267647932558653966460912964486e-3": must be less than or equal to 1152921504606846976
        "#]],
    );
    check(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Ei"}}}}),
        expect![[r#"
            FieldValueInvalid spec.resources.requests.storage: Invalid value: "9223372036854775807": must be less than or equal to 1152921504606846976
        "#]],
    );
}

#[test]
fn join_tokens_and_node_keys() {
    let hash = "0123456789abcdef".repeat(4);
    let other = "f".repeat(64);
    check(
        "drover.dev/v1alpha1",
        "JoinToken",
        json!({"spec": {"secretHash": hash, "expirationTimestamp": "2026-01-01T00:00:00Z"}}),
        expect![[r#""#]],
    );
    check(
        "drover.dev/v1alpha1",
        "JoinToken",
        json!({"spec": {"secretHash": "ABC", "maxUses": 0}, "status": {"nodes": [{"name": "A_", "publicKeyHash": ""}]}}),
        expect![[r#"
            FieldValueInvalid spec.secretHash: Invalid value: "ABC": must be a SHA-256 as 64 hexadecimal digits in lower case
            FieldValueRequired spec.expirationTimestamp: Required value: a token must end
            FieldValueInvalid spec.maxUses: Invalid value: 0: must be between 1 and 1000, inclusive
            FieldValueInvalid status.nodes[0].name: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueRequired status.nodes[0].publicKeyHash: Required value
        "#]],
    );
    check_update(
        "drover.dev/v1alpha1",
        "JoinToken",
        json!({"spec": {"secretHash": hash, "expirationTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"spec": {"secretHash": other, "expirationTimestamp": "2026-01-01T00:00:00Z"}}),
        expect![[r#"
            FieldValueInvalid spec.secretHash: Invalid value: "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff": field is immutable
        "#]],
    );
    check(
        "drover.dev/v1alpha1",
        "NodeKey",
        json!({"spec": {}}),
        expect![[r#"
        FieldValueRequired spec.publicKeyHash: Required value
    "#]],
    );
    check_update(
        "drover.dev/v1alpha1",
        "NodeKey",
        json!({"spec": {"publicKeyHash": hash}}),
        json!({"spec": {"publicKeyHash": other, "revoked": true}}),
        expect![[r#"
            FieldValueInvalid spec.publicKeyHash: Invalid value: "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff": field is immutable
        "#]],
    );
}
