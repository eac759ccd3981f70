use serde_json::{Value, json};

use super::*;

fn pod(spec: &Value) -> Pod {
    let mut spec = spec.clone();
    spec["containers"] = json!([{ "name": "side", "resources": { "limits": { "memory": "1Ki" } } }]);
    serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "ns" }, "spec": spec })).unwrap()
}

fn container(env: &Value, env_from: &Value) -> Container {
    serde_json::from_value(json!({ "name": "app", "env": env, "envFrom": env_from })).unwrap()
}

fn lookups() -> Lookups<'static> {
    let config_map = json!({ "data": { "A": "map-a", "B": "$(A)", "bad=key": "x" } });
    let secret = json!({ "data": { "A": "c2VjcmV0", "bin": "/w==" } });
    Lookups {
        config_maps: [("cm".to_owned(), serde_json::from_value(config_map).unwrap())].into(),
        secrets: [("sec".to_owned(), serde_json::from_value(secret).unwrap())].into(),
        services: Vec::new(),
    }
}

fn resolved(env: &Value, env_from: &Value) -> Result<Environment, String> {
    let pod = pod(&json!({}));
    let facts = PodFacts { pod_ip: Some("10.1.1.1".parse().unwrap()), ..Default::default() };
    resolve(&pod, &container(env, env_from), &facts, &lookups()).map_err(|error| error.message)
}

fn shown(environment: &Environment) -> String {
    environment.variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

#[test]
fn values_expand_from_what_stands_before_them() {
    let env = json!([
        { "name": "LATE", "value": "$(EARLY)" },
        { "name": "EARLY", "value": "1" },
        { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "URL", "value": "http://$(IP):$(EARLY)/$(A)$$(IP)" },
        { "name": "SELF", "value": "$(SELF)" },
        { "name": "EMPTY" },
    ]);
    let environment = resolved(&env, &json!([{ "configMapRef": { "name": "cm" } }])).unwrap();
    expect_test::expect![[r#"
        A=map-a
        B=$(A)
        LATE=$(EARLY)
        EARLY=1
        IP=10.1.1.1
        URL=http://10.1.1.1:1/map-a$(IP)
        SELF=$(SELF)
        EMPTY=
    "#]]
    .assert_eq(&shown(&environment));
}

#[test]
fn what_says_where_the_pod_goes_does_not_reach_the_container() {
    let env = json!([{"name": "constraint:region", "value": "=us*"}, {"name": "affinity:image!", "value": "redis"},
        {"name": "constraints", "value": "mine"}]);
    assert_eq!(shown(&resolved(&env, &json!([])).unwrap()).trim(), "constraints=mine");
}

#[test]
fn later_sources_win_and_names_that_cannot_be_are_noted() {
    let from = json!([
        { "configMapRef": { "name": "cm" } },
        { "secretRef": { "name": "sec" } },
        { "prefix": "P_", "configMapRef": { "name": "cm" } },
        { "configMapRef": { "name": "none", "optional": true } },
    ]);
    let environment = resolved(&json!([{ "name": "B", "value": "own" }]), &from).unwrap();
    assert_eq!(shown(&environment), "A=secret\nbin=\u{fffd}\nP_A=map-a\nP_B=$(A)\nB=own\n");
    let note = "Keys [bad=key] from the EnvFrom configMap ns/cm were skipped since they are considered invalid \
                environment variable names.";
    assert_eq!(environment.notes.first().map(String::as_str), Some(note));
    assert_eq!(environment.notes.len(), 2);
}

#[test]
fn a_reference_resolves_or_says_what_is_missing() {
    let key_ref = |kind: &str, name: &str, key: &str, optional: bool| json!({ kind: { "name": name, "key": key, "optional": optional } });
    let table = [
        (key_ref("configMapKeyRef", "cm", "A", false), Ok("V=map-a\n")),
        (key_ref("secretKeyRef", "sec", "A", false), Ok("V=secret\n")),
        (key_ref("configMapKeyRef", "cm", "k", true), Ok("")),
        (key_ref("secretKeyRef", "gone", "k", true), Ok("")),
        (key_ref("configMapKeyRef", "cm", "k", false), Err("couldn't find key k in ConfigMap ns/cm")),
        (key_ref("secretKeyRef", "sec", "k", false), Err("couldn't find key k in Secret ns/sec")),
        (key_ref("configMapKeyRef", "x", "k", false), Err("configmap \"x\" not found")),
        (key_ref("secretKeyRef", "x", "k", false), Err("secret \"x\" not found")),
        (json!({ "fieldRef": { "fieldPath": "spec.magic" } }), Err("unsupported fieldPath: spec.magic")),
        (json!({ "resourceFieldRef": { "containerName": "side", "resource": "limits.memory" } }), Ok("V=1024\n")),
        (
            json!({ "resourceFieldRef": { "containerName": "x", "resource": "limits.cpu" } }),
            Err("container x not found"),
        ),
    ];
    for (source, expected) in table {
        let result = resolved(&json!([{ "name": "V", "valueFrom": source }]), &json!([]));
        let result = result.map(|environment| shown(&environment));
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned), "{source}");
    }
    for (kind, words) in [("configMapRef", "configmap \"x\" not found"), ("secretRef", "secret \"x\" not found")] {
        let error = resolved(&json!([]), &json!([{ kind: { "name": "x" } }])).unwrap_err();
        assert_eq!(error, words);
    }
}
