use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds::{Durability, Kind, NameRule};

const POD: Kind = kind("", "Pod", true, &["spec.nodeName", "status.phase", "spec.hostNetwork"]);
const NODE: Kind = kind("", "Node", false, &["spec.unschedulable"]);
const EVENT: Kind = kind("", "Event", true, &["involvedObject.name", "source", "reportingComponent"]);
const DEPLOYMENT: Kind = kind("apps", "Deployment", true, &[]);
const REPLICA_SET: Kind = kind("apps", "ReplicaSet", true, &["status.replicas"]);

const fn kind(
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    field_selectors: &'static [&'static str],
) -> Kind {
    Kind {
        group,
        version: "v1",
        kind,
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced,
        subresources: &[],
        has_generation: false,
        durability: Durability::Durable,
        name_rule: NameRule::DnsSubdomain,
        field_selectors,
        verbs: &[],
        type_name: "",
        stored_as: None,
    }
}

fn matches(selector: &str, labels: &Value) -> bool {
    LabelSelector::parse(selector).unwrap().matches(labels.as_object())
}

fn refusal(selector: &str) -> String {
    LabelSelector::parse(selector).expect_err(selector).message
}

#[test]
fn each_operator_selects_as_kubernetes_does() {
    let labels = json!({"app": "web", "tier": "front", "size": "7", "empty": ""});
    for selector in [
        "",
        "app=web",
        "app==web",
        "app!=db",
        "app in (db,web)",
        "app notin (db)",
        "app",
        "!legacy",
        "legacy!=x",
        "legacy notin (x)",
        "size>6",
        "size<8",
        "app = web , tier",
        "empty=",
        "empty in (,x)",
        " app in ( web ) ",
    ] {
        assert!(matches(selector, &labels), "{selector}");
    }
    for selector in [
        "app=db",
        "app!=web",
        "app in (db)",
        "app notin (web)",
        "legacy",
        "!app",
        "legacy=x",
        "legacy=",
        "size>7",
        "app>1",
    ] {
        assert!(!matches(selector, &labels), "{selector}");
    }
    assert!(LabelSelector::parse("app!=x").unwrap().matches(None));
    assert!(!LabelSelector::parse("app=x").unwrap().matches(None));
}

#[test]
fn malformed_queries_say_what_was_expected() {
    assert_eq!(refusal("a=b=c"), "found '=', expected: ',' or 'end of string'");
    assert_eq!(refusal("a,"), "found '', expected: identifier after ','");
    assert_eq!(refusal("=a"), "found '=', expected: !, identifier, or 'end of string'");
    assert_eq!(refusal("a in b"), "unable to parse requirement: found 'b' expected: '('");
    assert_eq!(refusal("a in (b"), "unable to parse requirement: found '', expected: ',' or ')'");
    assert_eq!(
        refusal("a like b"),
        "unable to parse requirement: found 'like', expected: in, notin, =, ==, !=, gt, lt"
    );
    assert_eq!(
        refusal("a in ()"),
        "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
    assert!(refusal("a>b").contains("the value must be an integer"));
    assert!(refusal("a=-b-").contains("values[0][a]: Invalid value: \"-b-\": a valid label must be an empty string"));
    assert!(refusal("-a").contains("key: Invalid value: \"-a\": name part must consist of"));
    assert_eq!(LabelSelector::parse("a b").expect_err("refused").code, 400);
}

#[test]
fn the_object_form_means_the_same_as_the_query_form() {
    let selector = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "zone", "operator": "NotIn", "values": ["x"]},
            {"key": "ok", "operator": "Exists"},
            {"key": "legacy", "operator": "DoesNotExist"},
        ],
    });
    let parsed = LabelSelector::from_object(&selector).unwrap();
    assert_eq!(parsed.to_string(), "app=web,!legacy,ok,tier in (a,b),zone notin (x)");
    assert_eq!(LabelSelector::parse(&parsed.to_string()).unwrap(), parsed);
    assert!(LabelSelector::from_object(&Value::Null).unwrap().is_empty());
    let unknown = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    assert_eq!(
        LabelSelector::from_object(&unknown).expect_err("refused").message,
        "\"Like\" is not a valid label selector operator"
    );
}

#[test]
fn selector_bombs_are_refused() {
    let many: Vec<String> = (0..10_000).map(|index| format!("k{index}=v")).collect();
    assert!(refusal(&many.join(",")).contains("too large"));
    let values: Vec<String> = (0..20_000).map(|index| format!("v{index}")).collect();
    assert!(refusal(&format!("a in ({})", values.join(","))).contains("too large"));
}

#[test]
fn field_selectors_compare_the_fields_of_their_kind() {
    let pod =
        json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x"}, "status": {"phase": "Running"}});
    let selects = |text: &str| FieldSelector::parse(&POD, text).unwrap().matches(&pod);
    for text in [
        "",
        "metadata.name=a",
        "metadata.namespace==n",
        "spec.nodeName!=y",
        "spec.host=x",
        "spec.hostNetwork=false",
        "status.phase!=Succeeded,status.phase!=Failed",
        ",metadata.name=a,",
    ] {
        assert!(selects(text), "{text}");
    }
    assert!(!selects("metadata.name=b"));
    let exact = FieldSelector::parse(&POD, "metadata.name=a,spec.nodeName!=x").unwrap();
    assert_eq!((exact.exact_name(), exact.exact("spec.nodeName")), (Some("a"), None));
}

#[test]
fn a_schedulable_node_counts_as_not_unschedulable() {
    let selector = FieldSelector::parse(&NODE, "spec.unschedulable==false").unwrap();
    assert!(selector.matches(&json!({"metadata": {"name": "n"}})));
    assert!(!selector.matches(&json!({"spec": {"unschedulable": true}})));
}

#[test]
fn events_are_selected_in_both_of_their_shapes() {
    let selector = FieldSelector::parse(&EVENT, "involvedObject.name=web,source=kubelet").unwrap();
    assert!(selector.matches(&json!({"involvedObject": {"name": "web"}, "source": {"component": "kubelet"}})));
    assert!(
        FieldSelector::parse(&EVENT, "regarding.name=web")
            .unwrap()
            .matches(&json!({"involvedObject": {"name": "web"}}))
    );
}

#[test]
fn unknown_fields_are_refused_in_the_words_of_their_kind() {
    let refusal = |kind: &Kind, text: &str| FieldSelector::parse(kind, text).expect_err(text).message;
    assert_eq!(refusal(&POD, "spec.image=x"), "field label not supported: spec.image");
    assert_eq!(
        refusal(&DEPLOYMENT, "spec.replicas=1"),
        "\"spec.replicas\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(refusal(&REPLICA_SET, "spec.x=1"), "field label \"spec.x\" not supported for appsv1.ReplicaSet");
    assert_eq!(refusal(&POD, "status.phase"), "invalid selector: 'status.phase'; can't understand 'status.phase'");
    assert_eq!(refusal(&POD, "metadata.name=a=b"), "invalid field selector: unescaped character in value: =");
    assert!(FieldSelector::parse(&POD, r"metadata.name=a\,b").is_ok());
}

proptest! {
    #[test]
    fn parsing_is_total(text: String, syntax in "[ab=!<>(), in]{0,40}", field in r"[a.=!\\,]{0,20}") {
        for candidate in [text, syntax] {
            if let Ok(selector) = LabelSelector::parse(&candidate) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
        let _ = FieldSelector::parse(&POD, &field);
    }
}
