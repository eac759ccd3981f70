//! Deployments and ReplicaSets.

use super::*;

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x:1"}]}})
}

fn deployment(fields: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template()});
    for (field, value) in fields.as_object().expect("the case is an object") {
        spec[field] = value.clone();
    }
    json!({"spec": spec})
}

#[test]
fn a_deployment_selects_its_own_template() {
    let check = |fields: Value, wanted: Expect| super::check("apps/v1", "Deployment", deployment(fields), wanted);
    check(json!({}), expect![[r#""#]]);
    check(
        json!({"selector": {"matchLabels": {"app": "db"}}}),
        expect![[r#"
        FieldValueInvalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`
    "#]],
    );
    check(
        json!({"selector": null}),
        expect![[r#"
        FieldValueRequired spec.selector: Required value
    "#]],
    );
    check(
        json!({"selector": {}}),
        expect![[r#"
        FieldValueInvalid spec.selector: Invalid value: {}: empty selector is invalid for deployment
    "#]],
    );
    check(
        json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Like"}]}}),
        expect![[r#"
        FieldValueInvalid spec.selector.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator
        FieldValueInvalid spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Like"}]}: invalid label selector
    "#]],
    );
    check(
        json!({"template": {}}),
        expect![[r#"
            FieldValueInvalid spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`
            FieldValueRequired spec.template.spec.containers: Required value
        "#]],
    );
}

#[test]
fn the_numbers_of_a_deployment_are_sane() {
    let check = |fields: Value, wanted: Expect| super::check("apps/v1", "Deployment", deployment(fields), wanted);
    check(
        json!({"replicas": -1, "minReadySeconds": 10, "progressDeadlineSeconds": 10, "revisionHistoryLimit": -1}),
        expect![[r#"
        FieldValueInvalid spec.replicas: Invalid value: -1: must be greater than or equal to 0
        FieldValueInvalid spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0
        FieldValueInvalid spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds
    "#]],
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
        expect![[r#"
        FieldValueInvalid spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
    "#]],
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxSurge": "x", "maxUnavailable": "101%"}}}),
        expect![[r#"
        FieldValueInvalid spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
        FieldValueInvalid spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
    "#]],
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxSurge": -1}}}),
        expect![[r#"
        FieldValueInvalid spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0
    "#]],
    );
    check(
        json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
        expect![[r#"
        FieldValueForbidden spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
    "#]],
    );
    check(
        json!({"strategy": {"type": "Canary"}}),
        expect![[r#"
        FieldValueNotSupported spec.strategy: Unsupported value: {"type":"Canary"}: supported values: "Recreate", "RollingUpdate"
    "#]],
    );
    let mut once = template();
    once["spec"]["restartPolicy"] = "Never".into();
    once["spec"]["activeDeadlineSeconds"] = 3.into();
    check(
        json!({"template": once}),
        expect![[r#"
        FieldValueNotSupported spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        FieldValueForbidden spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported
    "#]],
    );
}

#[test]
fn the_selector_of_a_workload_never_changes() {
    let mut other = deployment(json!({"selector": {"matchLabels": {"app": "db"}}}));
    other["spec"]["template"]["metadata"]["labels"]["app"] = "db".into();
    check_update(
        "apps/v1",
        "Deployment",
        deployment(json!({})),
        other.clone(),
        expect![[r#"
        FieldValueInvalid spec.selector: Invalid value: {"matchLabels":{"app":"db"}}: field is immutable
    "#]],
    );
    check_update(
        "apps/v1",
        "ReplicaSet",
        deployment(json!({})),
        other,
        expect![[r#"
        FieldValueInvalid spec.selector: Invalid value: {"matchLabels":{"app":"db"}}: field is immutable
    "#]],
    );
}

#[test]
fn statuses_are_checked() {
    let kind = kind("apps/v1", "Deployment");
    let status = |status: Value| json!({"metadata": {"name": "x", "namespace": "default"}, "status": status});
    let errors = update_status(
        kind,
        &status(json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": -1})),
        &status(json!({"collisionCount": 1})),
    );
    expect![[r#"
        FieldValueInvalid status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
        FieldValueInvalid status.availableReplicas: Invalid value: -1: must be greater than or equal to 0
        FieldValueInvalid status.collisionCount: Invalid value: 0: cannot be decremented
    "#]]
    .assert_eq(&lines(&errors));
}
