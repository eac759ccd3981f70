use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds;

fn kind(api_version: &str, name: &str) -> &'static Kind {
    kinds::by_gvk(api_version, name).expect("a served kind")
}

fn deployment() -> &'static Kind {
    kind("apps/v1", "Deployment")
}

fn accepted(kind: &Kind, body: &str) -> Value {
    decode(kind, body.as_bytes(), FieldValidation::Strict).unwrap_or_else(|error| panic!("{}", error.message)).object
}

fn refused(kind: &Kind, body: impl AsRef<[u8]>) -> String {
    let error = decode(kind, body.as_ref(), FieldValidation::Strict).expect_err("a refusal");
    assert_eq!((error.code, error.reason), (400, "BadRequest"));
    error.message
}

const PREFIX: &str = "Deployment in version \"v1\" cannot be handled as a Deployment: ";

#[test]
fn a_body_gets_its_version_kind_and_metadata() {
    let object = accepted(deployment(), r#"{"spec":{"replicas":2}}"#);
    assert_eq!(object, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"replicas": 2}}));
}

#[test]
fn unknown_and_duplicate_fields_are_named_with_their_paths_in_the_order_of_the_document() {
    let body = r#"{"spec":{"replicas":1,"template":{"spec":{"containers":[
        {"name":"a","imag":"x","image":"x"},{"name":"b","name":"c","ports":[{"Hostport":1}]}]}},"replicas":2},"extra":{}}"#;
    let expected = "strict decoding error: unknown field \"spec.template.spec.containers[0].imag\", \
         duplicate field \"spec.template.spec.containers[1].name\", \
         unknown field \"spec.template.spec.containers[1].ports[0].Hostport\", \
         duplicate field \"spec.replicas\", unknown field \"extra\"";
    assert_eq!(refused(deployment(), body), format!("{PREFIX}{expected}"));
    let warned = decode(deployment(), body.as_bytes(), FieldValidation::Warn).unwrap();
    assert_eq!(warned.warnings.len(), 5);
    assert_eq!(warned.warnings[0], "unknown field \"spec.template.spec.containers[0].imag\"");
    assert_eq!(warned.object["spec"]["replicas"], 2);
    assert!(warned.object.get("extra").is_none());
    let ignored = decode(deployment(), body.as_bytes(), FieldValidation::Ignore).unwrap();
    assert_eq!(ignored.object, warned.object);
    assert!(ignored.warnings.is_empty());
}

#[test]
fn duplicate_keys_of_a_map_are_found() {
    let body = r#"{"metadata":{"labels":{"app":"a","app":"b"}}}"#;
    assert_eq!(
        refused(deployment(), body),
        format!("{PREFIX}strict decoding error: duplicate field \"metadata.labels.app\"")
    );
}

#[test]
fn field_names_are_case_sensitive() {
    let message = refused(deployment(), r#"{"Spec":{}}"#);
    assert_eq!(message, format!("{PREFIX}strict decoding error: unknown field \"Spec\""));
}

#[test]
fn wrong_types_are_refused_in_the_words_of_kubernetes() {
    let table = [
        (r#"{"spec":{"replicas":"3"}}"#, "string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (r#"{"spec":{"replicas":1.5}}"#, "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (
            r#"{"spec":{"replicas":3000000000}}"#,
            "number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (r#"{"spec":{"paused":1}}"#, "number into Go struct field DeploymentSpec.spec.paused of type bool"),
        (r#"{"metadata":[]}"#, "array into Go struct field Deployment.metadata of type v1.ObjectMeta"),
        (
            r#"{"metadata":{"labels":{"a":true}}}"#,
            "bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"image":1}]}}}}"#,
            "number into Go struct field Container.spec.template.spec.containers.image of type string",
        ),
        ("[]", "array into Go value of type v1.Deployment"),
        ("7", "number into Go value of type v1.Deployment"),
    ];
    for (body, expected) in table {
        assert_eq!(refused(deployment(), body), format!("{PREFIX}json: cannot unmarshal {expected}"), "{body}");
    }
    assert_eq!(refused(deployment(), "null"), format!("{PREFIX}the body is null"));
}

#[test]
fn values_that_do_not_parse_are_refused() {
    let time = refused(deployment(), r#"{"metadata":{"creationTimestamp":"yesterday"}}"#);
    assert!(time.starts_with(&format!("{PREFIX}parsing time \"yesterday\" as")), "{time}");
    let bytes = refused(kind("v1", "Secret"), r#"{"data":{"a":"YQ==","b":"Y*=="}}"#);
    assert!(bytes.ends_with("illegal base64 data at input byte 1"), "{bytes}");
    for quantity in ["1.5.5", "abc", "1Kii", "e3", "1e", "--1", "0x10"] {
        let body = json!({"spec": {"capacity": {"storage": quantity}}}).to_string();
        let message = refused(kind("v1", "PersistentVolume"), body);
        assert!(message.contains("quantities must match the regular expression"), "{quantity}: {message}");
    }
}

#[test]
fn times_and_numeric_quantities_get_their_canonical_form() {
    let object = accepted(deployment(), r#"{"metadata":{"creationTimestamp":"2024-05-01T12:00:00.9+02:00"}}"#);
    assert_eq!(object["metadata"]["creationTimestamp"], "2024-05-01T10:00:00Z");
    let lease = accepted(kind("coordination.k8s.io/v1", "Lease"), r#"{"spec":{"renewTime":"2024-05-01T12:00:00Z"}}"#);
    assert_eq!(lease["spec"]["renewTime"], "2024-05-01T12:00:00.000000Z");
    let volume =
        accepted(kind("v1", "PersistentVolume"), r#"{"spec":{"capacity":{"storage":5,"a":"1.5Gi","b":"2e3"}}}"#);
    assert_eq!(volume["spec"]["capacity"], json!({"storage": "5", "a": "1.5Gi", "b": "2e3"}));
}

#[test]
fn null_means_absent_and_zero_inside_lists_and_maps() {
    let body = r#"{"metadata":{"creationTimestamp":null,"labels":{"a":null},"finalizers":[null]},"spec":null,
        "status":{"conditions":[null]}}"#;
    let object = accepted(deployment(), body);
    assert_eq!(object["metadata"], json!({"labels": {"a": ""}, "finalizers": [""]}));
    assert!(object.get("spec").is_none());
    assert_eq!(object["status"]["conditions"], json!([{}]));
}

#[test]
fn a_number_or_a_string_is_kept_as_it_is_where_both_may_stand() {
    let body = r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":"25%"}}}}"#;
    let update = &accepted(deployment(), body)["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(*update, json!({"maxSurge": 1, "maxUnavailable": "25%"}));
}

#[test]
fn another_kind_or_version_is_refused_even_when_a_field_does_not_fit() {
    assert_eq!(
        refused(deployment(), r#"{"apiVersion":"v1","kind":"Deployment"}"#),
        "the API version in the data (v1) does not match the expected API version (apps/v1)"
    );
    let message = refused(deployment(), r#"{"kind":"ReplicaSet","apiVersion":"apps/v1","spec":{"replicas":""}}"#);
    assert!(message.starts_with("ReplicaSet in version \"v1\" cannot be handled as a Deployment:"), "{message}");
}

#[test]
fn malformed_json_is_refused() {
    for body in
        [&b""[..], b"{", b"{\"a\":}", b"{} {}", b"\xef\xbb\xbf{}", b"{\"metadata\":{\"name\":\"\xff\"}}", b"{'a':1}"]
    {
        let message = refused(deployment(), body);
        assert!(message.contains("json parse error"), "{message}");
    }
}

#[test]
fn deep_nesting_is_refused_with_little_stack() {
    let deep = |open: &str, close: &str, inner: &str| format!("{}{inner}{}", open.repeat(10_000), close.repeat(10_000));
    let lists = deep("[", "]", "");
    let revision = kind("apps/v1", "ControllerRevision");
    std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(move || {
            let message = refused(revision, format!(r#"{{"data":{lists}}}"#));
            assert!(message.contains("exceeded max depth: more than 100 levels"), "{message}");
            let message = refused(deployment(), format!(r#"{{"unknown":{lists}}}"#));
            assert!(message.contains("unknown field \"unknown\""), "{message}");
            let message = refused(deployment(), lists);
            assert!(message.contains("cannot unmarshal array"), "{message}");
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_body_of_ten_thousand_unknown_fields_gets_a_bounded_answer() {
    let fields: Vec<String> = (0..10_000).map(|n| format!("\"{}{n}\":0", "x".repeat(500))).collect();
    let message = refused(deployment(), format!("{{{}}}", fields.join(",")));
    assert_eq!(message.matches("unknown field").count(), 100);
    assert!(message.len() < 40_000);
}

#[test]
fn free_form_json_is_kept() {
    let body = r#"{"data":{"$patch":"replace","a":[1,null,{"b":{"b":true}}]},"revision":1}"#;
    let object = accepted(kind("apps/v1", "ControllerRevision"), body);
    assert_eq!(object["data"], json!({"$patch": "replace", "a": [1, null, {"b": {"b": true}}]}));
}

#[test]
fn bodies_of_subresources_are_decoded_by_their_type() {
    let any = br#"{"kind":"DeleteOptions","apiVersion":"apps/v1","gracePeriodSeconds":0}"#;
    let options = decode_type("meta.v1.DeleteOptions", any, FieldValidation::Strict).unwrap();
    assert_eq!(options.object["gracePeriodSeconds"], 0);
    for (ty, body) in [
        ("policy.v1.Eviction", json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}})),
        ("core.v1.Binding", json!({"target": {"kind": "Node", "name": "n"}})),
        ("autoscaling.v1.Scale", json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 3}})),
        ("authentication.v1.TokenRequest", json!({"spec": {"audiences": ["a"], "expirationSeconds": 600}})),
        ("authorization.v1.SubjectAccessReview", json!({"spec": {"user": "u", "extra": {"a": ["b"]}}})),
    ] {
        decode_type(ty, body.to_string().as_bytes(), FieldValidation::Strict).unwrap();
    }
    let error = decode_type("autoscaling.v1.Scale", br#"{"spec":{"replica":3}}"#, FieldValidation::Strict).unwrap_err();
    assert!(error.message.ends_with("strict decoding error: unknown field \"spec.replica\""));
}

#[test]
fn a_patched_object_is_checked_by_the_same_rules() {
    let wrong = check(deployment(), json!({"spec": {"replicas": "x"}}), FieldValidation::Strict).unwrap_err();
    assert_eq!(wrong.code, 400);
    assert!(wrong.message.ends_with("of type int32"));
    let unknown = check(deployment(), json!({"spec": {"replica": 1}}), FieldValidation::Strict).unwrap_err();
    assert_eq!(unknown.code, 422);
    assert!(unknown.message.ends_with("strict decoding error: unknown field \"spec.replica\""));
    let moved = check(deployment(), json!({"kind": "Pod"}), FieldValidation::Strict).unwrap_err();
    assert_eq!(moved.code, 400);
    assert!(check(deployment(), json!(null), FieldValidation::Strict).is_err());
}

/// Any JSON, often with the names and values that objects have.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "metadata",
        "name",
        "labels",
        "spec",
        "replicas",
        "template",
        "containers",
        "ports",
        "env",
        "finalizers",
        "data",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "strategy",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Quarters: serde_json does not promise to read other fractions back to the last bit.
        any::<i16>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        prop::sample::select(vec!["", "a", "delete", "replace", "merge", "2024-05-01T10:00:00Z"]).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(deployment(), &bytes, FieldValidation::Strict);
    }

    #[test]
    fn no_json_makes_it_panic_and_what_is_accepted_is_accepted_unchanged_again(value in any_json(), which in 0..kinds::all().len()) {
        let kind = &kinds::all()[which];
        if let Ok(decoded) = decode(kind, value.to_string().as_bytes(), FieldValidation::Ignore) {
            let again = decode(kind, decoded.object.to_string().as_bytes(), FieldValidation::Strict).unwrap();
            prop_assert_eq!(&again.object, &decoded.object);
            let checked = check(kind, decoded.object.clone(), FieldValidation::Strict).unwrap();
            prop_assert_eq!(checked.object, decoded.object);
        }
    }
}
