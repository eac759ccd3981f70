use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{decode::MAX_DEPTH, kinds, schema::FieldType};

mod encoder;

// What kubectl 1.32 sent for `create namespace demo`, `create deployment web --image=nginx:1.27 --replicas=0 --port=80`,
// `create secret generic s --from-literal=a=b` and `auth can-i get pods`, recorded on a socket.
const NAMESPACE: &str = "6b3873000a0f0a02763112094e616d657370616365121c0a140a0464656d6f12001a0022002a0032003800420012001a \
     020a001a002200";
const DEPLOYMENT: &str = "6b3873000a150a07617070732f7631120a4465706c6f796d656e7412bd010a1f0a0377656212001a0022002a00320038 \
     0042005a0a0a036170701203776562128b010800120c0a0a0a0361707012037765621a710a1c0a0012001a0022002a00 \
     3200380042005a0a0a036170701203776562125112330a056e67696e78120a6e67696e783a312e32372a00320a0a0010 \
     00185022002a0042006a007200800100880100900100a201001a00320042004a0052005800600068008201008a01009a \
     0100c2010022020a00280038001a0c0800100018002000280038001a002200";
const SECRET: &str = "6b3873000a0c0a0276311206536563726574121d0a110a017312001a0022002a0032003800420012060a01611201621a \
     001a002200";
const ACCESS_REVIEW: &str = "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a65637441636365 \
     7373526576696577123c0a100a0012001a0022002a00320038004200121e0a1c0a0764656661756c7412036765741a00 \
     22002a04706f647332003a001a08080012001a0020001a002200";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn kind(api_version: &str, name: &str) -> &'static Kind {
    kinds::by_gvk(api_version, name).expect("a served kind")
}

fn refused(kind: &Kind, body: &[u8]) -> String {
    let error = decode(kind, body).expect_err("a refusal");
    assert_eq!((error.code, error.reason), (400, "BadRequest"));
    error.message
}

#[test]
fn a_namespace_of_kubectl_is_read() {
    let object = decode(kind("v1", "Namespace"), &bytes(NAMESPACE)).unwrap().object;
    let expected =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}, "spec": {}, "status": {}});
    assert_eq!(object, expected);
}

#[test]
fn a_deployment_of_kubectl_is_read_with_its_meaningful_zero() {
    let object = decode(kind("apps/v1", "Deployment"), &bytes(DEPLOYMENT)).unwrap().object;
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [
                    {"name": "nginx", "image": "nginx:1.27", "ports": [{"containerPort": 80}], "resources": {}},
                ]},
            },
        },
        "status": {},
    });
    assert_eq!(object, expected);
}

#[test]
fn bytes_become_base64_and_reviews_are_read() {
    let secret = decode(kind("v1", "Secret"), &bytes(SECRET)).unwrap().object;
    assert_eq!(secret["data"], json!({"a": "Yg=="}));
    let review = kind("authorization.k8s.io/v1", "SelfSubjectAccessReview");
    let object = decode(review, &bytes(ACCESS_REVIEW)).unwrap().object;
    assert_eq!(
        object["spec"],
        json!({"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}})
    );
}

#[test]
fn another_kind_or_form_is_refused() {
    let pod = kind("v1", "Pod");
    assert!(refused(pod, &bytes(NAMESPACE)).starts_with("Namespace in version \"v1\" cannot be handled as a Pod"));
    let version = refused(pod, &bytes(DEPLOYMENT));
    assert_eq!(version, "the API version in the data (apps/v1) does not match the expected API version (v1)");
    for body in [&b""[..], b"{}", b"k8s", b"k8s\0\xff", b"k8s\0\x0a\x7f"] {
        assert!(refused(pod, body).starts_with("the object provided is unrecognized (must be of type Pod): "));
    }
}

#[test]
fn values_outside_their_type_are_refused() {
    let pod = kind("v1", "Pod");
    let wrap = |object: &[u8]| encoder::envelope("v1", "Pod", object);
    for (object, expected) in [
        (&[0x0a, 0x03, 0x0a, 0x01, 0xff][..], "not UTF-8"),
        (&[0x08, 0x01], "another wire type"),
        (&[0x0b], "illegal tag"),
        (&[0x0a, 0x05, 0x00], "unexpected end"),
        (&[0xff; 12], "longer than ten bytes"),
        (&[0x0a, 0x0d, 0x42, 0x0b, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x10], "unexpected end"),
        (&[0x0a, 0x0c, 0x42, 0x0a, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "time is out of range"),
    ] {
        let message = refused(pod, &wrap(object));
        assert!(message.contains(expected), "{object:x?}: {message}");
    }
}

#[test]
fn fields_that_the_table_does_not_have_are_skipped() {
    let mut object = encoder::message(kind("v1", "Pod").object_type(), &json!({"metadata": {"name": "a"}}));
    object.extend([
        0x98, 0x7d, 0x01, 0x9a, 0x7d, 0x02, 0x00, 0x00, 0x99, 0x7d, 0, 0, 0, 0, 0, 0, 0, 0, 0x9d, 0x7d, 0, 0, 0, 0,
    ]);
    let decoded = decode(kind("v1", "Pod"), &encoder::envelope("v1", "Pod", &object)).unwrap();
    assert_eq!(decoded.object["metadata"], json!({"name": "a"}));
}

#[test]
fn delete_options_of_any_group_are_read() {
    let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background", "preconditions": {"uid": "u"}});
    let object = encoder::message(schema::by_name("meta.v1.DeleteOptions").unwrap(), &options);
    let body = encoder::envelope("apps/v1", "DeleteOptions", &object);
    let decoded = decode_type("meta.v1.DeleteOptions", &body).unwrap().object;
    for (key, value) in options.as_object().unwrap() {
        assert_eq!(decoded[key], *value);
    }
}

#[test]
fn numbers_times_ports_and_free_json_keep_their_value() {
    for (api_version, name, object) in [
        (
            "apps/v1",
            "Deployment",
            json!({"metadata": {"creationTimestamp": "2024-05-01T10:00:00Z", "generation": -5}, "spec": {"replicas": -1,
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}}}),
        ),
        ("coordination.k8s.io/v1", "Lease", json!({"spec": {"renewTime": "2024-05-01T10:00:00.123456Z"}})),
        ("apps/v1", "ControllerRevision", json!({"data": {"spec": {"a": [1, null]}}, "revision": 3})),
        ("apps/v1", "ControllerRevision", json!({"data": "", "revision": 3})),
        ("apps/v1", "ControllerRevision", json!({"data": false, "revision": 3})),
        ("v1", "PersistentVolume", json!({"spec": {"capacity": {"storage": "5Gi"}, "hostPath": {"path": "/x"}}})),
        ("v1", "Pod", json!({"metadata": {"managedFields": [{"fieldsV1": {"f:a": {}}}]}})),
        ("authentication.k8s.io/v1", "TokenReview", json!({"status": {"user": {"extra": {"a": ["b", ""]}}}})),
        (
            "v1",
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 3},
                "envFrom": [{"configMapRef": {"name": "c"}}]}], "volumes": [{"name": "v", "emptyDir": {}}],
                "automountServiceAccountToken": false, "securityContext": {"supplementalGroups": [0, 5]}}}),
        ),
    ] {
        let kind = kind(api_version, name);
        let body = encoder::envelope(api_version, name, &encoder::message(kind.object_type(), &object));
        let mut decoded = decode(kind, &body).unwrap().object;
        let fields = decoded.as_object_mut().unwrap();
        fields.retain(|key, _| object.get(key).is_some());
        assert_eq!(decoded, object);
    }
}

proptest! {
    #[test]
    fn whatever_json_says_the_wire_says_too(value in crate::decode::tests::any_json(), which in 0..kinds::all().len()) {
        let kind = &kinds::all()[which];
        let from_json = decode::decode(kind, value.to_string().as_bytes(), FieldValidation::Ignore);
        if let Ok(Decoded { object, .. }) = from_json {
            let body = encoder::envelope(&kind.api_version(), kind.kind, &encoder::message(kind.object_type(), &object));
            let mut decoded = decode(kind, &body).unwrap().object;
            let mut object = object;
            encoder::drop_meaningless_zeros(FieldType::Message(schema::id_of(kind.type_name).unwrap()), &mut object);
            encoder::drop_meaningless_zeros(FieldType::Message(schema::id_of(kind.type_name).unwrap()), &mut decoded);
            prop_assert_eq!(decoded, object);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0..200_usize) {
        let pod = kind("apps/v1", "Deployment");
        let _ = decode(pod, &encoder::envelope("apps/v1", "Deployment", &noise));
        let mut body = bytes(DEPLOYMENT);
        body.splice(at.min(body.len()).., noise);
        let _ = decode(pod, &body);
    }
}

#[test]
fn nesting_is_bounded() {
    // No type of the table contains itself, so free-form JSON is all that can nest.
    let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 5), "]".repeat(MAX_DEPTH + 5));
    let mut raw = Vec::new();
    encoder::bytes_field(1, deep.as_bytes(), &mut raw);
    let mut object = Vec::new();
    encoder::bytes_field(2, &raw, &mut object);
    let body = encoder::envelope("apps/v1", "ControllerRevision", &object);
    assert!(refused(kind("apps/v1", "ControllerRevision"), &body).contains("exceeded max depth"));
}
