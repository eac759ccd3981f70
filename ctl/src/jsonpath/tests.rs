use proptest::prelude::*;
use serde_json::json;

use super::*;

fn list() -> Value {
    json!({"kind": "List", "items": [
        {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "status": {"phase": "Running", "n": 3}},
        {"metadata": {"name": "b"}, "status": {"phase": "Pending", "n": 5,
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]}},
    ]})
}

fn shown(template: &str) -> String {
    match Template::parse(template) {
        Ok(template) => template.render(&list()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn templates_print_what_kubectl_prints() {
    let cases = [
        ("{.kind}", "List"),
        (".kind", "List"),
        ("kind", "List"),
        ("{$.kind}", "List"),
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].metadata.name}/{.items[-1].metadata.name}", "a/b"),
        ("{.items[0:1].metadata.name}", "a"),
        ("{.items[0,1]['metadata'].name}", "a b"),
        ("{.items[*].status['phase', 'n']}", "Running 3 Pending 5"),
        ("{.items[0].metadata.labels.app\\.kubernetes\\.io/name}", "x"),
        ("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x"),
        ("{..name}", "a b"),
        ("{.items[?(@.status.phase==\"Pending\")].metadata.name}", "b"),
        ("{.items[?(@.status.n<4)].metadata.name}", "a"),
        ("{.items[?(@.metadata.labels)].metadata.name}", "a"),
        ("{.items[1].status.conditions[?(@.type=='Ready')].status}", "False"),
        ("{range .items[*]}{.metadata.name}{\"\\t\"}{.status.phase}{'\\n'}{end}", "a\tRunning\nb\tPending\n"),
        ("{range .items[*]}{range .status.conditions[*]}{.type},{end}{end}", "Ready,Other,"),
        ("{.items[1].status.conditions[0]}", "{\"status\":\"False\",\"type\":\"Ready\"}"),
        ("{.missing.field}", ""),
        ("text {.kind} text", "text List text"),
    ];
    for (template, expected) in cases {
        assert_eq!(shown(template), expected, "{template}");
    }
}

#[test]
fn malformed_templates_say_what_is_wrong() {
    let cases = [
        ("{.kind", "jsonpath: '{' without '}'"),
        ("{range .items[*]}x", "jsonpath: 'range' without 'end'"),
        ("{end}", "jsonpath: 'end' without 'range'"),
        ("{.items[x]}", "jsonpath: \"x\" is not an index"),
        ("{.items[0}", "jsonpath: '[' without ']'"),
        ("{.items[?(@.a==b)]}", "jsonpath: \"b\" is not a value"),
        ("{.a..}", "jsonpath: a field name is missing before \"\""),
        ("{.kind} {nonsense}", "jsonpath: unexpected \"nonsense\""),
    ];
    for (template, expected) in cases {
        assert_eq!(shown(template), expected, "{template}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[{}\\[\\].@$?()'\"a-c0-9:*,\\\\ =<é]{0,40}") {
        let _ = Template::parse(&text).map(|template| template.render(&list()));
    }
}
