use std::sync::Arc;

use expect_test::expect;
use serde_json::{Value, json};

use super::{
    change::{Observed, cleanup, commands},
    config::{Settings, files, structure_of},
    *,
};

fn read<K: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<Arc<K>> {
    values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).expect("an object"))).collect()
}

fn settings() -> Settings {
    Settings { http_port: 80, https_port: 443, stats_port: 8404, dir: "/d".to_owned(), user: None }
}

fn ingress(name: &str, second: u32, annotations: &Value, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "annotations": annotations,
        "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")}, "spec": spec})
}

fn path(path: &str, kind: &str, service: &str) -> Value {
    json!({"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}})
}

fn rule(host: &str, paths: &[Value]) -> Value {
    json!({"host": host, "http": {"paths": paths}})
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"ports": [{"name": "http", "port": 80}]}})
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({"metadata": {"name": format!("{service}-x"), "namespace": "n", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
}

fn input(ingresses: &[Value]) -> Input {
    let class = json!({"metadata": {"name": "haproxy"}, "spec": {"controller": "drover.dev/haproxy"}});
    let other = json!({"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}});
    Input {
        ingresses: read(ingresses),
        classes: read(&[class, other]),
        services: read(&[service("a"), service("b")]),
        slices: read(&[slice("a", &["10.0.0.1", "10.0.0.2"]), slice("b", &["10.0.0.3"])]),
        ..Input::default()
    }
}

fn one(annotations: &Value, spec: Value) -> Desired {
    let mut spec = spec;
    spec["ingressClassName"] = "haproxy".into();
    desired(&input(&[ingress("i", 0, annotations, &spec)]))
}

/// The backend sections after the one for what leads nowhere.
fn backends(desired: &Desired) -> String {
    let files = files(desired, &settings());
    let (_, config) = files.files.iter().find(|(name, _)| name == "haproxy.cfg").expect("it is always there");
    let (_, after) = config.split_once("no Ingress leads there\\n\"\n").expect("the section is always there");
    after.to_owned()
}

#[test]
fn rules_become_maps_and_backends() {
    let rules = [
        rule("x.org", &[path("/", "Prefix", "a"), path("/b/", "Prefix", "b"), path("/b", "Exact", "a")]),
        rule("*.x.org", &[path("/", "ImplementationSpecific", "b")]),
    ];
    let default = json!({"service": {"name": "a", "port": {"name": "http"}}});
    let desired = one(&json!({}), json!({"rules": rules, "defaultBackend": default}));
    let files = files(&desired, &settings());
    let file = |name: &str| files.files.iter().find(|(file, _)| file == name).map(|(_, text)| text.clone()).unwrap();
    expect![[r#"
        x.org|/b n_a_80
    "#]]
    .assert_eq(&file("exact.map"));
    expect![[r#"
        |/ n_a_http
        *.x.org|/ n_b_80
        x.org|/ n_a_80
        x.org|/b/ n_b_80
    "#]]
    .assert_eq(&file("prefix.map"));
    expect![[r#"

        backend n_a_80
            balance roundrobin
            default-server check inter 2s fall 3 rise 1
            server 10.0.0.1:8080 10.0.0.1:8080
            server 10.0.0.2:8080 10.0.0.2:8080

        backend n_a_http
            balance roundrobin
            default-server check inter 2s fall 3 rise 1
            server 10.0.0.1:8080 10.0.0.1:8080
            server 10.0.0.2:8080 10.0.0.2:8080

        backend n_b_80
            balance roundrobin
            default-server check inter 2s fall 3 rise 1
            server 10.0.0.3:8080 10.0.0.3:8080
    "#]]
    .assert_eq(&backends(&desired));
    assert_eq!(desired.problems, []);
}

#[test]
fn options_are_written_and_quoted() {
    let annotations = json!({
        "ingress.drover.dev/balance": "source",
        "ingress.drover.dev/health-check": "/up$HOME",
        "ingress.drover.dev/max-body": "1Ki",
        "ingress.drover.dev/redirect": "https://y.org/100%?a=$b",
        "ingress.drover.dev/rewrite": "/v2/",
        "ingress.drover.dev/timeout": "5m",
    });
    let spec = json!({"rules": [rule("x.org", &[path("/a.b", "Prefix", "b")])], "tls": [{"hosts": ["x.org"]}]});
    let text = backends(&one(&annotations, spec.clone()));
    let (_, text) = text.trim_start().split_once('\n').expect("the name is a digest");
    expect![[r#"
        balance source
        hash-type consistent
        timeout server 300s
        http-request redirect location "https://%[req.hdr(host),field(1,:)]%[capture.req.uri]" code 308 if !{ ssl_fc }
        http-request redirect location "https://y.org/100%%?a=\$b" code 302
        http-request deny status 413 if { req.body_size gt 1024 }
        option httpchk GET "/up\$HOME"
        http-check expect status 200-399
        http-request set-var(txn.whole) bool(1) if { path "/a.b" }
        http-request set-path "/v2/" if { var(txn.whole) -m bool }
        http-request replace-path "^\\/a\\.b/(.*)\$" "/v2/\\1" if !{ var(txn.whole) -m bool }
        default-server check inter 2s fall 3 rise 1
        server 10.0.0.3:8080 10.0.0.3:8080
    "#]]
    .assert_eq(&text.replace("    ", ""));
    let plain = one(&json!({"ingress.drover.dev/https-redirect": "false"}), spec);
    assert!(!backends(&plain).contains("redirect"));
}

#[test]
fn the_older_one_keeps_what_two_ask_for() {
    let spec = |service: &str| json!({"ingressClassName": "haproxy", "rules": [rule("x.org", &[path("/", "Prefix", service)])]});
    let (old, new) = (ingress("z", 1, &json!({}), &spec("a")), ingress("a", 2, &json!({}), &spec("b")));
    for ingresses in [[old.clone(), new.clone()], [new, old]] {
        let desired = desired(&input(&ingresses));
        let leads: Vec<_> = desired.routes.iter().map(|route| route.backend.as_str()).collect();
        assert_eq!(leads, ["n_a_80"]);
        let said: Vec<_> =
            desired.problems.iter().map(|problem| (problem.ingress.1.as_str(), &*problem.message)).collect();
        assert_eq!(said, [("a", "x.org/ is led elsewhere by Ingress n/z, which is older")]);
    }
}

#[test]
fn what_cannot_be_served_is_named_and_harms_nothing_else() {
    let rules = [rule(
        "x.org",
        &[
            path("/", "Prefix", "a"),
            path("/gone", "Prefix", "gone"),
            path("/a b", "Prefix", "a"),
            path("/x\n|/y n_a_80", "Exact", "a"),
            json!({"path": "/port", "pathType": "Exact", "backend": {"service": {"name": "a", "port": {"name": "no"}}}}),
            json!({"path": "/r", "pathType": "Exact", "backend": {"resource": {"kind": "B", "name": "b"}}}),
        ],
    )];
    let desired = one(&json!({}), json!({"rules": rules}));
    let reasons: Vec<_> = desired.problems.iter().map(|problem| problem.reason).collect();
    assert_eq!(reasons, ["BackendUnsupported", "PathUnusable", "PathUnusable", "PortNotFound", "ServiceNotFound"]);
    assert_eq!(desired.routes.len(), 3, "an empty backend says 503 where another route would answer for it");
    assert!(desired.backends["n_gone_80"].servers.is_empty());
}

#[test]
fn other_classes_are_nothing_to_us() {
    let spec = |class: Value| json!({"ingressClassName": class, "rules": [rule("x.org", &[path("/", "Prefix", "a")])]});
    let old = |class: &str| json!({"kubernetes.io/ingress.class": class});
    for (annotations, class, ours) in [
        (json!({}), json!("haproxy"), true),
        (json!({}), json!("nginx"), false),
        (json!({}), json!("nobody"), false),
        (json!({}), json!(null), false),
        (old("haproxy"), json!(null), true),
        (old("haproxy"), json!("nginx"), false),
    ] {
        let desired = desired(&input(&[ingress("i", 0, &annotations, &spec(class))]));
        assert_eq!(!desired.routes.is_empty(), ours);
    }
}

#[test]
fn servers_change_without_a_new_structure_and_certificates_with_one() {
    let spec = json!({"ingressClassName": "haproxy", "rules": [rule("x.org", &[path("/", "Prefix", "a")])],
        "tls": [{"hosts": ["x.org"], "secretName": "s"}]});
    let mut input = input(&[ingress("i", 0, &json!({}), &spec)]);
    let before = files(&desired(&input), &settings());
    input.slices.pop();
    input.slices.remove(0);
    let after = files(&desired(&input), &settings());
    assert!(before.structure == after.structure && before.files != after.files);
    input.certificates.insert(("n".to_owned(), "s".to_owned()), "key".to_owned());
    let desired = desired(&input);
    let with = files(&desired, &settings());
    assert!(with.structure != after.structure);
    assert!(with.files.contains(&("certificates.list".to_owned(), "/d/n_s.pem x.org\n".to_owned())));
    assert!(!format!("{desired:?} {with:?}").contains("\"key\""), "keys are not for logs");
    assert_eq!(
        structure_of(&format!("Name: HAProxy\ndescription: drover {}\n", with.structure)),
        Some(&*with.structure)
    );
    assert_eq!(structure_of("Name: HAProxy\ndescription: mine\n"), None);
}

#[test]
fn servers_are_added_before_others_are_taken_out_and_removed_at_last() {
    let answer = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 n_a_80 1 10.0.0.1:8080 10.0.0.1 2 0 1 1 1 8 2 0 6 0 0 0 - 8080 - 0 0 - - 0
3 n_a_80 2 10.0.0.9:8080 10.0.0.9 2 0 1 1 0 1 0 1 6 0 0 0 - 8080 - 0 0 - - 0
4 n_b_80 1 10.0.0.3:8080 10.0.0.3 0 1 1 1 0 1 0 1 6 0 0 0 - 8080 - 0 0 - - 0
4 n_b_80 2 10.0.0.8:8080 10.0.0.8 0 1 1 1 0 1 0 1 6 0 0 0 - 8080 - 0 0 - - 0
5 theirs 1 web 10.0.0.8 0 1 1 1 0 1 0 1 6 0 0 0 - 8080 - 0 0 - - 0
";
    let observed = Observed::read(answer);
    let rules = [rule("x.org", &[path("/", "Prefix", "a"), path("/b", "Prefix", "b")])];
    let desired = one(&json!({}), json!({"rules": rules}));
    assert!(commands(&observed.clone().after(&desired), &desired).is_empty(), "nothing is left to do");
    assert_eq!(
        commands(&observed, &desired),
        [
            "add server n_a_80/10.0.0.2:8080 10.0.0.2:8080 check inter 2s fall 3 rise 1",
            "enable health n_a_80/10.0.0.2:8080",
            "set server n_a_80/10.0.0.2:8080 state ready",
            "enable health n_b_80/10.0.0.3:8080",
            "set server n_b_80/10.0.0.3:8080 state ready",
            "set server n_a_80/10.0.0.9:8080 state maint",
        ]
    );
    assert_eq!(cleanup(&observed, &desired), ["del server n_b_80/10.0.0.8:8080"]);
}
