use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    plan::{Plan, Touched},
    *,
};
use crate::{ids::PodUid, seams::HostPort};

fn config() -> ProxyConfig {
    ProxyConfig {
        table: "drover".into(),
        node: "here".into(),
        pod_cidr: "10.128.0.0/22".parse().unwrap(),
        cluster_cidr: "10.128.0.0/9".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
    }
}

fn service(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec })
}

fn slice(service: &str, endpoints: &Value) -> Value {
    json!({ "metadata": { "namespace": "shop", "name": service, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] })
}

fn endpoint(address: &str, node: &str, state: &str) -> Value {
    let conditions = match state {
        "ready" => json!({ "ready": true, "serving": true, "terminating": false }),
        "leaving" => json!({ "ready": false, "serving": true, "terminating": true }),
        "gone" => json!({ "ready": false, "serving": false, "terminating": true }),
        "starting" => json!({ "ready": false, "serving": false, "terminating": false }),
        other => panic!("{other}"),
    };
    json!({ "addresses": [address], "nodeName": node, "conditions": conditions })
}

fn input(services: &[Value], slices: &[Value]) -> ProxyInput {
    ProxyInput {
        services: services.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect(),
        slices: slices.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect(),
        ..ProxyInput::default()
    }
}

fn web(extra: &Value) -> Value {
    let mut spec = json!({ "clusterIP": "10.96.0.10", "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    service("web", &spec)
}

/// Where each element leads: the elements of the maps, with the rules of the chains they go to.
fn show(input: &ProxyInput) -> String {
    let tables = desired(input, &config());
    let mut lines = Vec::new();
    for (map, elements) in &tables.elements {
        for (key, value) in elements {
            let chain = value.strip_prefix("goto ").and_then(|name| tables.chains.get(name));
            let value = chain.map_or_else(|| value.clone(), |chain| chain.rules.join(" | "));
            lines.push(format!("{map} {key} => {value}").trim_end_matches(" => ").to_owned());
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_service_leads_to_its_ready_endpoints_and_only_when_there_is_none_to_those_that_leave() {
    let all = json!([
        endpoint("10.128.0.2", "here", "ready"),
        endpoint("10.128.4.2", "there", "ready"),
        endpoint("10.128.0.3", "here", "leaving"),
        endpoint("10.128.0.4", "here", "gone"),
        endpoint("10.128.0.5", "here", "starting"),
    ]);
    expect![[r#"
        hairpin 10.128.0.2 . 10.128.0.2
        services 10.96.0.10 . tcp . 80 => meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.128.0.2 . 8080, 1 : 10.128.4.2 . 8080 } comment "shop/web:http"
    "#]]
    .assert_eq(&show(&input(&[web(&json!({}))], &[slice("web", &all)])));
    let leaving = Value::Array(all.as_array().unwrap()[2..].to_vec());
    expect![[r#"
        hairpin 10.128.0.3 . 10.128.0.3
        services 10.96.0.10 . tcp . 80 => meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.128.0.3 . 8080 } comment "shop/web:http"
    "#]]
    .assert_eq(&show(&input(&[web(&json!({}))], &[slice("web", &leaving)])));
}

#[test]
fn a_doubted_node_gets_connections_only_where_nobody_else_is_left() {
    let all = json!([
        endpoint("10.128.4.2", "there", "ready"),
        endpoint("10.128.8.2", "yonder", "ready"),
        endpoint("10.128.8.3", "yonder", "leaving"),
        endpoint("10.128.0.3", "here", "leaving"),
    ]);
    let leads_to = |doubted: &[&str], endpoints: &[Value]| {
        let doubted = doubted.iter().map(|node| (*node).to_owned()).collect();
        let slices = [slice("web", &json!(endpoints))];
        let shown = show(&ProxyInput { doubted, ..input(&[web(&json!({}))], &slices) });
        let found = ["10.128.4.2", "10.128.8.2", "10.128.8.3", "10.128.0.3"].into_iter();
        found.filter(|address| shown.contains(&format!(" : {address} . 8080"))).collect::<Vec<_>>()
    };
    let all = all.as_array().unwrap();
    assert_eq!(leads_to(&[], all), ["10.128.4.2", "10.128.8.2"]);
    assert_eq!(leads_to(&["yonder"], all), ["10.128.4.2"]);
    assert_eq!(leads_to(&["yonder", "there"], all), ["10.128.0.3"], "who leaves but is surely there");
    assert_eq!(leads_to(&["yonder", "there"], &all[..3]), ["10.128.4.2", "10.128.8.2"], "better than nobody");
}

#[test]
fn local_policies_keep_to_this_node() {
    let endpoints = json!([endpoint("10.128.0.2", "here", "ready"), endpoint("10.128.4.2", "there", "ready")]);
    let local = json!({ "type": "NodePort", "externalTrafficPolicy": "Local" });
    expect![[r#"
        hairpin 10.128.0.2 . 10.128.0.2
        nodeports tcp . 30080 => meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.128.0.2 . 8080 } comment "shop/web:http"
        services 10.96.0.10 . tcp . 80 => meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.128.0.2 . 8080, 1 : 10.128.4.2 . 8080 } comment "shop/web:http"
    "#]]
    .assert_eq(&show(&input(&[web(&local)], &[slice("web", &endpoints)])));
    let away = json!([endpoint("10.128.4.2", "there", "ready")]);
    let both = json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local" });
    expect![[r#"
        rejected tcp . 30080
    "#]]
    .assert_eq(&show(&input(&[web(&both)], &[slice("web", &away)])));
}

#[test]
fn what_must_not_or_cannot_be_served_is_left_out() {
    let forbidden = json!(
        ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "nonsense", "fd00::1"]
            .map(|address| { endpoint(address, "here", "ready") })
    );
    let services = [
        web(&json!({ "type": "NodePort" })),
        service("headless", &json!({ "clusterIP": "None", "ports": [{ "port": 80 }] })),
        service("name", &json!({ "type": "ExternalName", "externalName": "example.com", "ports": [{ "port": 80 }] })),
        service(
            "odd",
            &json!({ "clusterIP": "10.96.0.11", "ports": [{ "port": 0 }, { "port": 70000 }, { "port": -1 }] }),
        ),
    ];
    expect![[r#"
        rejected tcp . 30080
    "#]]
    .assert_eq(&show(&input(&services, &[slice("web", &forbidden)])));
}

#[test]
fn host_ports_lead_to_their_pod() {
    let port = |host_address, protocol: &str| HostPort {
        host_address,
        host_port: 8053,
        container_port: 53,
        protocol: protocol.into(),
    };
    let ports = vec![port(None, "UDP"), port(Some(Ipv4Addr::new(192, 0, 2, 2)), "TCP"), port(None, "X")];
    let host_ports = BTreeMap::from([(PodUid::new("u").unwrap(), (Ipv4Addr::new(10, 128, 0, 9), ports))]);
    expect![[r#"
        hairpin 10.128.0.9 . 10.128.0.9
        hostportips 192.0.2.2 . tcp . 8053 => 10.128.0.9 . 53
        hostports udp . 8053 => 10.128.0.9 . 53
    "#]]
    .assert_eq(&show(&ProxyInput { host_ports, ..ProxyInput::default() }));
}

#[test]
fn a_table_is_built_whole_before_it_gets_its_hooks() {
    let endpoints = json!([endpoint("10.128.0.2", "here", "ready")]);
    let affine =
        json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } } });
    let tables = desired(&input(&[web(&affine)], &[slice("web", &endpoints)]), &config());
    let change = diff(&Observed::default(), &tables, "drover");
    let commands = [change.declare, change.prepare, change.switch].map(|part| part.join("\n")).join("\n--\n") + "\n";
    expect![[r#"
        add table ip drover
        add map ip drover services { type ipv4_addr . inet_proto . inet_service : verdict; }
        add map ip drover nodeports { type inet_proto . inet_service : verdict; }
        add map ip drover hostports { type inet_proto . inet_service : ipv4_addr . inet_service; }
        add map ip drover hostportips { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
        add set ip drover rejected { type inet_proto . inet_service; }
        add set ip drover hairpin { type ipv4_addr . ipv4_addr; }
        add set ip drover aff_eec514a36740 { type ipv4_addr; flags dynamic,timeout; timeout 60s; size 65536; }
        add chain ip drover ep_523f99354650
        add chain ip drover svc_075bca197657
        add chain ip drover translate_f708a9822398
        add rule ip drover ep_523f99354650 update @aff_eec514a36740 { ip saddr }
        add rule ip drover ep_523f99354650 meta l4proto tcp dnat ip to 10.128.0.2:8080
        add rule ip drover svc_075bca197657 ip saddr @aff_eec514a36740 goto ep_523f99354650
        add rule ip drover svc_075bca197657 numgen random mod 1 vmap { 0 : goto ep_523f99354650 } comment "shop/web:http"
        add rule ip drover translate_f708a9822398 ip daddr . meta l4proto . th dport vmap @services
        add rule ip drover translate_f708a9822398 ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @nodeports
        add rule ip drover translate_f708a9822398 ip daddr != 127.0.0.0/8 dnat ip to ip daddr . meta l4proto . th dport map @hostportips
        add rule ip drover translate_f708a9822398 ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to meta l4proto . th dport map @hostports
        --
        add element ip drover services { 10.96.0.10 . tcp . 80 : goto svc_075bca197657 }
        add element ip drover hairpin { 10.128.0.2 . 10.128.0.2 }
        --
        add chain ip drover output_cd821ddaa064 { type nat hook output priority -110; policy accept; }
        add chain ip drover postrouting_9bf2aa311e40 { type nat hook postrouting priority 90; policy accept; }
        add chain ip drover prerouting_3a98546bb611 { type nat hook prerouting priority -110; policy accept; }
        add chain ip drover rejectforward_7c3f6c3b95ce { type filter hook forward priority -10; policy accept; }
        add chain ip drover rejectinput_f5d2ad92923b { type filter hook input priority -10; policy accept; }
        add chain ip drover rejectoutput_5252a797a4ee { type filter hook output priority -10; policy accept; }
        add rule ip drover output_cd821ddaa064 jump translate_f708a9822398
        add rule ip drover postrouting_9bf2aa311e40 ct status dnat ip saddr . ip daddr @hairpin masquerade
        add rule ip drover postrouting_9bf2aa311e40 ct status dnat ip saddr != 10.128.0.0/9 ip daddr 10.128.0.0/9 ip daddr != 10.128.0.0/22 masquerade
        add rule ip drover postrouting_9bf2aa311e40 ip saddr 10.128.0.0/22 ip daddr != 10.128.0.0/9 masquerade
        add rule ip drover prerouting_3a98546bb611 jump translate_f708a9822398
        add rule ip drover rejectforward_7c3f6c3b95ce ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset
        add rule ip drover rejectforward_7c3f6c3b95ce ip daddr 10.96.0.0/16 reject with icmp type port-unreachable
        add rule ip drover rejectinput_f5d2ad92923b fib daddr type local meta l4proto . th dport @rejected meta l4proto tcp reject with tcp reset
        add rule ip drover rejectinput_f5d2ad92923b fib daddr type local meta l4proto . th dport @rejected reject with icmp type port-unreachable
        add rule ip drover rejectoutput_5252a797a4ee ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset
        add rule ip drover rejectoutput_5252a797a4ee ip daddr 10.96.0.0/16 reject with icmp type port-unreachable
    "#]].assert_eq(&commands);
}

#[test]
fn an_update_touches_one_element_and_two_chains_however_many_services_there_are_and_never_chain_and_element_at_once() {
    let many = |address: &str| {
        let names: Vec<String> = (0..200).map(|number| format!("s{number}")).collect();
        let ports = json!([{ "name": "http", "port": 80 }]);
        let service_of = |(number, name): (usize, &String)| {
            service(name, &json!({ "clusterIP": format!("10.96.1.{number}"), "ports": ports }))
        };
        let services: Vec<Value> = names.iter().enumerate().map(service_of).collect();
        let other = json!([endpoint("10.128.4.9", "there", "ready")]);
        let changed = json!([endpoint(address, "there", "ready")]);
        let slices = names.iter().map(|name| slice(name, if name == "s7" { &changed } else { &other }));
        desired(&input(&services, &slices.collect::<Vec<_>>()), &config())
    };
    let (before, after) = (many("10.128.4.2").observed(), many("10.128.4.3"));
    let Change { declare, prepare, switch } = diff(&before, &after, "drover");
    assert!(declare.is_empty(), "nothing that only nft can say: {declare:?}");
    assert!([&prepare, &switch].iter().all(|commands| encode::encode(commands, "drover").is_some()));
    let gone = sweep(&before, &left_over(&before, &after), "drover");
    expect![[r#"
        add chain ip drover svc_3c4757797611
        add rule ip drover svc_3c4757797611 meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.128.4.3 . 8080 } comment "shop/s7:http"
        --
        delete element ip drover services { 10.96.1.7 . tcp . 80 }
        add element ip drover services { 10.96.1.7 . tcp . 80 : goto svc_3c4757797611 }
        --
        flush chain ip drover svc_2f688fdcb887
        delete chain ip drover svc_2f688fdcb887
    "#]].assert_eq(&([prepare, switch, gone].map(|part| part.join("\n")).join("\n--\n") + "\n"));
}

#[test]
fn a_tampered_table_is_filled_again() {
    let endpoints = json!([endpoint("10.128.0.2", "here", "ready")]);
    let tables = desired(&input(&[web(&json!({}))], &[slice("web", &endpoints)]), &config());
    let mut flushed = tables.observed();
    flushed.chains.values_mut().for_each(|rules| *rules = 0);
    let Change { declare, prepare, switch: _ } = diff(&flushed, &tables, "drover");
    let commands = [declare, prepare].concat();
    let rules: usize = tables.chains.values().map(|chain| chain.rules.len()).sum();
    assert_eq!(commands.iter().filter(|command| command.starts_with("add rule")).count(), rules);
    assert_eq!(commands.iter().filter(|command| command.starts_with("flush chain")).count(), tables.chains.len());
    let mut foreign = tables.observed();
    foreign.chains.insert("intruder".into(), 1);
    foreign.elements.get_mut("services").unwrap().insert("10.96.0.99 . tcp . 80".into(), "goto intruder".into());
    foreign.affinity.insert("theirs".into());
    let Change { declare, prepare, switch } = diff(&foreign, &tables, "drover");
    let gone = sweep(&foreign, &left_over(&foreign, &tables), "drover");
    expect![[r#"
        delete element ip drover services { 10.96.0.99 . tcp . 80 }
        flush chain ip drover intruder
        delete chain ip drover intruder
        delete set ip drover theirs"#]]
    .assert_eq(&[declare, prepare, switch, gone].concat().join("\n"));
}

/// Everything that is said to the kernel without nft: each part is one transaction.
const DIRECT: [&str; 3] = [
    "add chain ip t svc_a
     add chain ip t svc_b
     add rule ip t svc_a meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.1.1.1 . 8080, 1 : 10.1.1.2 . 81 } comment \"shop/a:http\"
     add rule ip t svc_b meta l4proto udp dnat ip to numgen random mod 1 map { 0 : 10.1.1.1 . 53 } comment \"shop/b:\"
     add element ip t services { 10.96.0.1 . tcp . 80 : goto svc_a, 10.96.0.2 . udp . 53 : goto svc_b }
     add element ip t nodeports { sctp . 30080 : goto svc_a }
     add element ip t hostports { tcp . 80 : 10.1.1.1 . 8080 }
     add element ip t hostportips { 192.0.2.1 . udp . 80 : 10.1.1.1 . 8080 }
     add element ip t rejected { tcp . 30082 }
     add element ip t hairpin { 10.1.1.1 . 10.1.1.1, 10.1.1.2 . 10.1.1.2 }",
    "delete element ip t services { 10.96.0.2 . udp . 53 }
     add element ip t services { 10.96.0.2 . udp . 53 : goto svc_a }
     delete element ip t hairpin { 10.1.1.2 . 10.1.1.2 }
     delete element ip t hostports { tcp . 80 }",
    "flush chain ip t svc_b
     delete chain ip t svc_b",
];

fn commands(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// Carries the parts out in a network name space of its own and returns what nft shows after each.
fn shown_by_nft(direct: bool) -> Vec<String> {
    let nft = |arguments: &[&str]| {
        let output = std::process::Command::new("nft").args(arguments).output().expect("nft runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let work = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root makes name spaces");
        nft(&["add table ip t"]);
        for (map, definition) in tables::MAPS {
            nft(&[&format!("add {}", definition.replacen("{}", &format!("ip t {map}"), 1))]);
        }
        let part = |text: &&str| {
            match direct {
                true => {
                    nft::commit(&encode::encode(&commands(text), "t").expect("sayable")).expect("the kernel takes it")
                }
                false => drop(nft(&[&commands(text).join("\n")])),
            }
            nft(&["list", "table", "ip", "t"])
        };
        DIRECT.iter().map(part).collect()
    };
    std::thread::spawn(work).join().expect("all parts are carried out")
}

#[test]
fn what_is_said_to_the_kernel_is_what_nft_would_say() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (ours, theirs) = (shown_by_nft(true), shown_by_nft(false));
    assert_eq!(ours, theirs);
    assert!(ours[0].contains("goto svc_b") && !ours[2].contains("svc_b"), "{ours:?}");
}

#[test]
fn what_the_kernel_refuses_changes_nothing_and_is_an_error() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let work = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root makes name spaces");
        let part = |text| nft::commit(&encode::encode(&commands(text), "t").expect("sayable"));
        assert_eq!(part(DIRECT[0]).expect_err("there is no table").kind(), std::io::ErrorKind::NotFound);
    };
    std::thread::spawn(work).join().expect("the refusal is seen");
}

#[test]
fn what_only_nft_can_say_is_left_to_it() {
    for text in [
        "add table ip t",
        "add map ip t services { type ipv4_addr . inet_proto . inet_service : verdict; }",
        "add chain ip t output_1 { type nat hook output priority -110; policy accept; }",
        "add rule ip t output_1 jump translate_1",
        "add rule ip t svc_1 numgen random mod 1 vmap { 0 : goto ep_1 } comment \"a\"",
        "add rule ip t svc_1 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 80 } comment \"a\"",
        "add element ip t services { 10.96.0.1 . icmp . 80 : goto svc_a }",
        "add element ip t services { 10.96.0.1 . tcp : goto svc_a }",
        "add element ip t unheard_of { 10.96.0.1 }",
        "delete set ip t aff_1",
        "flush chain ip other svc_1",
    ] {
        assert_eq!(encode::encode(&commands(text), "t"), None, "{text}");
    }
}

#[test]
fn a_listing_is_read_as_what_was_written() {
    let listing = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": "drover", "handle": 3}},
        {"map": {"family": "ip", "name": "services", "table": "drover", "type": ["ipv4_addr"], "handle": 8, "map": "verdict",
          "elem": [[{"concat": ["10.96.0.1", "tcp", 80]}, {"goto": {"target": "svc_a"}}]]}},
        {"map": {"name": "hostports", "table": "drover", "elem": [[{"concat": ["udp", 53]}, {"concat": ["10.128.0.2", 53]}]]}},
        {"set": {"name": "hairpin", "table": "drover", "elem": [{"concat": ["10.128.0.2", "10.128.0.2"]}]}},
        {"set": {"name": "rejected", "table": "drover"}}, {"set": {"name": "aff_1", "table": "drover", "elem": [{"elem": {}}]}},
        {"chain": {"name": "svc_a", "table": "drover"}}, {"chain": {"name": "empty", "table": "drover"}},
        {"rule": {"chain": "svc_a", "expr": []}}, {"rule": {"chain": "svc_a", "expr": []}}]}"#;
    let elements = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let expected = Observed {
        exists: true,
        chains: BTreeMap::from([("svc_a".into(), 2), ("empty".into(), 0)]),
        affinity: ["aff_1".to_owned()].into(),
        elements: BTreeMap::from([
            ("services".into(), elements(&[("10.96.0.1 . tcp . 80", "goto svc_a")])),
            ("hostports".into(), elements(&[("udp . 53", "10.128.0.2 . 53")])),
            ("hairpin".into(), elements(&[("10.128.0.2 . 10.128.0.2", "")])),
            ("rejected".into(), elements(&[])),
        ]),
    };
    assert_eq!(observe(listing).unwrap(), expected);
    for broken in ["", "[]", "{}", r#"{"nftables": [{"chain": {}}]}"#, r#"{"nftables": [7]}"#] {
        observe(broken).expect_err(broken);
    }
}

proptest! {
    #[test]
    fn a_table_is_a_fixed_point_and_does_not_depend_on_order(
        states in prop::collection::vec((2u8..9, 0usize..4, any::<bool>()), 0..8), affine in any::<bool>(), local in any::<bool>(),
    ) {
        let endpoints: Vec<Value> = states.iter().map(|(last, state, here)| {
            let state = ["ready", "leaving", "gone", "starting"][*state];
            endpoint(&format!("10.128.0.{last}"), if *here { "here" } else { "there" }, state)
        }).collect();
        let extra = json!({ "type": "NodePort", "sessionAffinity": if affine { "ClientIP" } else { "None" },
            "externalTrafficPolicy": if local { "Local" } else { "Cluster" } });
        let mut given = input(&[web(&extra), service("b", &json!({ "clusterIP": "10.96.0.10", "ports": [{ "port": 80 }] }))],
            &[slice("web", &Value::Array(endpoints.clone())), slice("b", &Value::Array(endpoints))]);
        let tables = desired(&given, &config());
        prop_assert_eq!(diff(&tables.observed(), &tables, "drover"), Change::default());
        given.services.reverse();
        given.slices.reverse();
        prop_assert_eq!(&desired(&given, &config()), &tables);
        for value in tables.elements.values().flat_map(BTreeMap::values) {
            if let Some(chain) = value.strip_prefix("goto ") {
                prop_assert!(tables.chains.contains_key(chain));
            }
        }
    }

    #[test]
    fn a_plan_that_follows_its_objects_is_what_a_new_one_would_be_and_so_is_the_kernel(
        steps in prop::collection::vec((0usize..4, 0u8..3, any::<bool>(), any::<bool>(), any::<bool>()), 1..12),
    ) {
        let (mut plan, mut kernel, mut now) = (Plan::default(), Observed::default(), input(&[], &[]));
        for (which, state, affine, doubt, host_port) in steps {
            // Two of the Services want the same address.
            let (name, address) = [("a", 1), ("b", 1), ("c", 2), ("d", 3)][which];
            now.services.retain(|service| service.metadata.name.as_deref() != Some(name));
            now.slices.retain(|slice| slice.metadata.name.as_deref() != Some(name));
            if state > 0 {
                let spec = json!({ "clusterIP": format!("10.96.0.{address}"), "type": "NodePort",
                    "sessionAffinity": if affine { "ClientIP" } else { "None" },
                    "ports": [{ "name": "http", "port": 80, "nodePort": 30080 + which }] });
                let endpoints: Vec<Value> =
                    (0..state).map(|last| endpoint(&format!("10.128.0.{}", last + 2), "here", "ready")).collect();
                let made = input(&[service(name, &spec)], &[slice(name, &json!(endpoints))]);
                now.services.splice(0..0, made.services);
                now.slices.extend(made.slices);
            }
            now.doubted = doubt.then(|| "here".to_owned()).into_iter().collect();
            now.host_ports.clear();
            if host_port {
                let port = HostPort { host_address: None, host_port: 8053, container_port: 53, protocol: "UDP".into() };
                now.host_ports.insert(PodUid::new("u-1").unwrap(), (Ipv4Addr::new(10, 128, 0, 9), vec![port]));
            }
            let mut touched = Touched::default();
            plan.update(now.clone(), &config(), &mut touched);
            let wanted = desired(&now, &config());
            prop_assert_eq!(plan.tables(), &wanted);
            let (part, of_it) = plan.restricted(&touched, &kernel);
            kernel.replace(&part, of_it.observed());
            prop_assert_eq!(&kernel, &wanted.observed());
        }
    }
}
