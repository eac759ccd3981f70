use std::{net::Ipv4Addr, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::dns::DnsInput;

fn zone() -> Zone {
    let service = |value: Value| Arc::new(serde_json::from_value(value).unwrap());
    let named =
        |name: &str, spec: Value| service(json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec }));
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP" }]);
    let slice = json!({
        "metadata": { "namespace": "shop", "name": "db-1", "labels": { "kubernetes.io/service-name": "db" } },
        "addressType": "IPv4", "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }],
        "endpoints": [
            { "addresses": ["10.128.0.5"], "hostname": "db-0", "conditions": { "ready": true } },
            { "addresses": ["10.128.0.6"], "conditions": { "ready": true } },
            { "addresses": ["10.128.0.7"], "hostname": "db-2", "conditions": { "ready": false } },
        ] });
    let input = DnsInput {
        services: vec![
            named("web", json!({ "clusterIP": "10.96.0.10", "ports": ports })),
            named("db", json!({ "clusterIP": "None", "ports": [] })),
            named("outside", json!({ "type": "ExternalName", "externalName": "www.Example.com." })),
            named("inside", json!({ "type": "ExternalName", "externalName": "web.shop.svc.cluster.local" })),
            named("round", json!({ "type": "ExternalName", "externalName": "round.shop.svc.cluster.local" })),
            named("empty", json!({ "clusterIP": "None" })),
        ],
        slices: vec![Arc::new(serde_json::from_value(slice).unwrap())],
        nodes: vec![Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": "n1" }, "status": { "addresses": [
                { "type": "Hostname", "address": "n1" }, { "type": "InternalIP", "address": "192.0.2.1" }] } }))
            .unwrap(),
        )],
    };
    Zone::new(&input, vec!["10.128.0.0/9".parse().unwrap(), "10.96.0.0/16".parse().unwrap()])
}

/// The answer as one line, to be compared with what is expected.
fn ask(name: &str, kind: &str) -> String {
    let show = |records: &[(String, Data)]| {
        let lines = records.iter().map(|(owner, data)| match data {
            Data::A(address) => format!("{owner} {address}"),
            Data::Srv(port, target) => format!("{owner} {port} {target}"),
            Data::Cname(target) | Data::Ptr(target) => format!("{owner} -> {target}"),
        });
        lines.collect::<Vec<_>>().join("; ").replace(".svc.cluster.local", "~")
    };
    match answer(&zone(), &name.replace('~', ".svc.cluster.local"), kind, 0) {
        Answer::Records { answers, additional } if additional.is_empty() => show(&answers),
        Answer::Records { answers, additional } => format!("{} + {}", show(&answers), show(&additional)),
        Answer::Alias { name: _, target } => format!("alias {target}"),
        Answer::NoName => "NXDOMAIN".into(),
        Answer::Forward => "forward".into(),
    }
}

#[test]
fn nodes_have_names_and_services_those_of_consul() {
    assert_eq!(ask("n1.node.cluster.local", "A"), "n1.node.cluster.local 192.0.2.1");
    assert_eq!(ask("n2.node.cluster.local", "A"), "NXDOMAIN");
    let db = "db.shop.service.consul";
    assert_eq!(ask(db, "A"), format!("{db} 10.128.0.5; {db} 10.128.0.6"));
    let (zero, six) = (format!("db-0.{db}"), format!("10-128-0-6.{db}"));
    let targets = format!("{six} 10.128.0.6; {zero} 10.128.0.5");
    assert_eq!(ask(db, "SRV"), format!("{db} 5432 {six}; {db} 5432 {zero} + {targets}"));
    let rfc = "_db._tcp.shop.service.consul";
    assert_eq!(ask(rfc, "SRV"), format!("{rfc} 5432 {six}; {rfc} 5432 {zero} + {targets}"));
    assert_eq!(ask("other.service.consul", "A"), "forward", "a Consul that is there already may know it");
}

#[test]
fn a_service_has_its_cluster_address_and_its_named_ports() {
    assert_eq!(ask("web.shop~", "A"), "web.shop~ 10.96.0.10");
    assert_eq!(ask("_http._tcp.web.shop~", "SRV"), "_http._tcp.web.shop~ 80 web.shop~ + web.shop~ 10.96.0.10");
    assert_eq!(ask("10.0.96.10.in-addr.arpa", "PTR"), "10.0.96.10.in-addr.arpa -> web.shop~");
}

#[test]
fn a_headless_service_has_the_addresses_and_names_of_its_ready_endpoints() {
    assert_eq!(ask("db.shop~", "A"), "db.shop~ 10.128.0.5; db.shop~ 10.128.0.6");
    assert_eq!(ask("db-0.db.shop~", "A"), "db-0.db.shop~ 10.128.0.5");
    assert_eq!(ask("10-128-0-6.db.shop~", "A"), "10-128-0-6.db.shop~ 10.128.0.6");
    assert_eq!(ask("db-2.db.shop~", "A"), "NXDOMAIN");
    assert_eq!(
        ask("_sql._tcp.db.shop~", "SRV"),
        "_sql._tcp.db.shop~ 5432 10-128-0-6.db.shop~; _sql._tcp.db.shop~ 5432 db-0.db.shop~ \
         + 10-128-0-6.db.shop~ 10.128.0.6; db-0.db.shop~ 10.128.0.5"
    );
}

#[test]
fn reverse_names_are_ours_only_for_our_addresses() {
    assert_eq!(ask("5.0.128.10.in-addr.arpa", "PTR"), "5.0.128.10.in-addr.arpa -> db-0.db.shop~");
    assert_eq!(ask("9.0.128.10.in-addr.arpa", "PTR"), "NXDOMAIN");
    assert_eq!(ask("8.8.8.8.in-addr.arpa", "PTR"), "forward");
}

#[test]
fn a_name_that_exists_without_such_a_record_is_not_denied() {
    for (name, kind) in [
        ("web.shop~", "AAAA"),
        ("web.shop~", "SRV"),
        ("empty.shop~", "A"),
        ("shop~", "A"),
        ("_tcp.web.shop~", "A"),
        ("svc.cluster.local", "A"),
        ("cluster.local", "A"),
        ("10-128-0-5.shop.pod.cluster.local", "AAAA"),
    ] {
        assert_eq!(ask(name, kind), "", "{name} {kind}");
    }
}

#[test]
fn what_is_in_our_domain_and_does_not_exist_is_denied_and_never_forwarded() {
    for name in ["nobody.shop~", "web.other~", "www.example.com.shop~", "x.cluster.local", "a.b.c.d.pod.cluster.local"]
    {
        assert_eq!(ask(name, "A"), "NXDOMAIN", "{name}");
    }
    for name in ["example.com", "notcluster.local", "local", "com", ""] {
        assert_eq!(ask(name, "A"), "forward", "{name}");
    }
}

#[test]
fn a_pods_dashed_name_spells_its_address() {
    let name = "10-128-0-5.shop.pod.cluster.local";
    assert_eq!(ask(name, "A"), format!("{name} 10.128.0.5"));
    assert_eq!(ask("8-8-8-8.shop.pod.cluster.local", "A"), "NXDOMAIN");
    assert_eq!(ask("x.shop.pod.cluster.local", "A"), "NXDOMAIN");
}

#[test]
fn an_external_name_is_an_alias() {
    assert_eq!(ask("outside.shop~", "A"), "alias www.example.com");
    assert_eq!(ask("outside.shop~", "CNAME"), "outside.shop~ -> www.example.com");
    assert_eq!(ask("inside.shop~", "A"), "inside.shop~ -> web.shop~; web.shop~ 10.96.0.10");
    assert_eq!(ask("round.shop~", "A"), "round.shop~ -> round.shop~");
}

#[test]
fn clients_are_spread_over_the_addresses() {
    let first = |rotation| match answer(&zone(), "db.shop.svc.cluster.local", "A", rotation) {
        Answer::Records { answers, additional: _ } => answers[0].1.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(first(0), Data::A(Ipv4Addr::new(10, 128, 0, 5)));
    assert_eq!(first(1), Data::A(Ipv4Addr::new(10, 128, 0, 6)));
    assert_eq!(first(2), first(0));
}
