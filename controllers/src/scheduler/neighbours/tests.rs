//! Rules between pods as tables, and as promises that hold whatever comes in whatever order.

#![expect(clippy::needless_pass_by_value, reason = "cases read better as plain values")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::{any, prop, prop_assert, proptest};
use serde_json::{Value, json};

use crate::scheduler::index::Index;
use crate::scheduler::node::Offer;
use crate::scheduler::place::place;
use crate::scheduler::rank::Strategy;
use crate::scheduler::shape::Shape;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// A cluster to which pods come one by one.
#[derive(Default)]
struct World {
    index: Index,
    pods: usize,
}

impl World {
    /// Nodes `a1` lie in zone `a`; a node that begins with `-` is in none.
    fn new(nodes: &[&str]) -> Self {
        let mut world = Self::default();
        for name in nodes {
            world.node(name, json!({}));
        }
        world.index.set_namespace("shop", Some(&BTreeMap::from([("team".to_owned(), "red".to_owned())])));
        world.index.set_namespace("print", Some(&BTreeMap::new()));
        world
    }

    fn node(&mut self, name: &str, spec: Value) {
        let mut labels = json!({HOST: name});
        if !name.starts_with('-') {
            labels[ZONE] = name[..1].into();
        }
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {
            "allocatable": {"cpu": "100", "memory": "100Gi", "pods": "100"},
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let node: Node = serde_json::from_value(node).unwrap();
        self.index.set_node(name, Offer::read(&node));
    }

    /// Places a pod; returns its node or why there is none.
    fn come(&mut self, pod: &Value) -> String {
        let pod = read(pod);
        let shape = Shape::read(&pod);
        let placed = place(&mut self.index, &shape, &[], Strategy::Spread, 0).node;
        if let Ok(node) = &placed {
            self.index.set_pod(&format!("uid-{}", self.pods), node, shape.placed);
            self.pods += 1;
        }
        placed.unwrap_or_else(|why| why)
    }

    /// Puts a pod on a node whatever its rules say.
    fn put(&mut self, node: &str, pod: &Value) {
        self.index.set_pod(&format!("uid-{}", self.pods), node, Shape::read(&read(pod)).placed);
        self.pods += 1;
    }
}

fn read(pod: &Value) -> Pod {
    serde_json::from_value(pod.clone()).unwrap()
}

fn pod(namespace: &str, labels: Value, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"namespace": namespace, "name": "p", "labels": labels}, "spec": spec});
    pod["spec"]["containers"] = json!([{"name": "c"}]);
    pod
}

fn plain(app: &str) -> Value {
    pod("shop", json!({"app": app}), json!({}))
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

/// A pod of `app` with a rule of affinity: `podAffinity` or `podAntiAffinity`, required.
fn ruled(app: &str, rule: &str, terms: &[Value]) -> Value {
    let affinity = json!({rule: {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    pod("shop", json!({"app": app}), json!({"affinity": affinity}))
}

fn spread(app: &str, constraint: &Value) -> Value {
    let mut whole = json!({"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": app}}});
    for (field, value) in constraint.as_object().unwrap() {
        whole[field] = value.clone();
    }
    pod("shop", json!({"app": app}), json!({"topologySpreadConstraints": [whole]}))
}

#[test]
fn pods_that_keep_apart_are_refused_where_one_is() {
    let mut world = World::new(&["a1", "a2"]);
    let apart = ruled("x", "podAntiAffinity", &[term("x", HOST)]);
    assert_eq!([world.come(&apart), world.come(&apart)], ["a1", "a2"]);
    assert_eq!(world.come(&apart), "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.");
    assert_eq!(world.come(&ruled("z", "podAntiAffinity", &[term("y", HOST)])), "a1", "y is nowhere");
}

#[test]
fn who_keeps_others_away_does_so_for_those_that_come_later() {
    let mut world = World::new(&["a1", "a2", "b1"]);
    world.put("a1", &ruled("x", "podAntiAffinity", &[term("y", ZONE)]));
    assert_eq!(world.come(&plain("y")), "b1");
    world.node("b1", json!({"unschedulable": true}));
    assert_eq!(
        world.come(&plain("y")),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't satisfy existing pods anti-affinity rules."
    );
    assert_eq!(world.come(&plain("z")), "a2", "nobody minds z");
}

#[test]
fn affinity_leads_to_where_the_others_are_and_the_first_of_a_group_starts_it() {
    let mut world = World::new(&["a1", "b1", "b2", "-1"]);
    let near_db = ruled("web", "podAffinity", &[term("db", ZONE)]);
    let nowhere = "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.";
    assert_eq!(world.come(&near_db), nowhere);
    world.put("b1", &plain("db"));
    assert_eq!(world.come(&near_db), "b2");
    // A group of its own: the first may go anywhere that has the label, the others follow it.
    let group = ruled("group", "podAffinity", &[term("group", ZONE)]);
    assert_eq!(world.come(&group), "a1");
    world.node("a1", json!({"unschedulable": true}));
    assert!(world.come(&group).contains("3 node(s) didn't match pod affinity rules"));
    // Several terms are about one and the same pod.
    let both = |other: &str| ruled("web", "podAffinity", &[term("db", ZONE), term(other, HOST)]);
    world.put("b2", &plain("cache"));
    assert!(world.come(&both("cache")).contains("didn't match pod affinity rules"));
    assert_eq!(world.come(&both("db")), "b1");
}

#[test]
fn terms_are_about_their_own_namespace_unless_they_say_more() {
    for (more, hits) in [
        (json!({}), false),
        (json!({"namespaces": ["shop"]}), true),
        (json!({"namespaces": ["other"]}), false),
        (json!({"namespaceSelector": {}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "red"}}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}}), false),
        (json!({"namespaces": ["print"], "namespaceSelector": {"matchLabels": {"team": "red"}}}), true),
    ] {
        let mut world = World::new(&["a1"]);
        world.put("a1", &plain("x"));
        let mut term = term("x", HOST);
        for (field, value) in more.as_object().unwrap() {
            term[field] = value.clone();
        }
        let mut stranger = ruled("y", "podAntiAffinity", &[term]);
        stranger["metadata"]["namespace"] = "print".into();
        assert_eq!(world.come(&stranger) != "a1", hits, "{more}");
    }
}

#[test]
fn keys_of_labels_narrow_a_term_to_the_same_or_another_version() {
    for (field, own, other) in [("matchLabelKeys", true, false), ("mismatchLabelKeys", false, true)] {
        let versioned = |version: &str| {
            let mut term = term("x", HOST);
            term[field] = json!(["version", "absent"]);
            let mut pod = ruled("x", "podAntiAffinity", &[term]);
            pod["metadata"]["labels"]["version"] = version.into();
            pod
        };
        let mut there = plain("x");
        there["metadata"]["labels"]["version"] = "1".into();
        let mut world = World::new(&["a1"]);
        world.put("a1", &there);
        assert_eq!((world.come(&versioned("1")) != "a1", world.come(&versioned("2")) != "a1"), (own, other), "{field}");
    }
}

#[test]
fn a_term_without_a_selector_means_nobody() {
    let mut world = World::new(&["a1"]);
    world.put("a1", &plain("x"));
    assert_eq!(world.come(&ruled("x", "podAntiAffinity", &[json!({"topologyKey": HOST})])), "a1");
    assert!(world.come(&ruled("x", "podAffinity", &[json!({"topologyKey": HOST})])).contains("affinity rules"));
}

#[test]
fn spreading_fills_domains_evenly_and_skips_nodes_without_one() {
    let mut world = World::new(&["a1", "b1", "c1", "c2", "-1"]);
    let web = spread("web", &json!({}));
    let mut zones: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..7 {
        *zones.entry(world.come(&web)[..1].to_owned()).or_default() += 1;
    }
    let mut counts: Vec<usize> = zones.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    let mut full = World::new(&["a1", "b1", "-1"]);
    full.node("b1", json!({"unschedulable": true}));
    assert_eq!(full.come(&web), "a1");
    assert_eq!(
        full.come(&web),
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod \
         topology spread constraints (missing required label), 1 node(s) were unschedulable."
    );
}

#[test]
fn what_counts_for_spreading_and_what_does_not() {
    let blocked = "didn't match pod topology spread constraints";
    // A pod on its way out does not count.
    let mut world = World::new(&["a1", "b1"]);
    let mut leaving = plain("web");
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    world.put("a1", &leaving);
    assert_eq!(world.come(&spread("web", &json!({}))), "b1", "emptier, but not for the constraint");
    // One of another namespace does not, and one of another version may not.
    let mut elsewhere = plain("web");
    elsewhere["metadata"]["namespace"] = "print".into();
    let mut other = plain("web");
    other["metadata"]["labels"]["pod-template-hash"] = "old".into();
    for (there, constraint, counts) in [
        (&elsewhere, json!({}), false),
        (&other, json!({}), true),
        (&other, json!({"matchLabelKeys": ["pod-template-hash"]}), false),
    ] {
        let mut world = World::new(&["a1", "b1"]);
        world.put("a1", there);
        world.node("b1", json!({"unschedulable": true}));
        let mut pod = spread("web", &constraint);
        pod["metadata"]["labels"]["pod-template-hash"] = "new".into();
        assert_eq!(world.come(&pod).contains(blocked), counts, "{constraint}");
    }
    // Nodes that the pod rules out itself make no domain, unless it says so; tainted ones do, unless it says so.
    for (spec, constraint, counts) in [
        (json!({}), json!({}), false),
        (json!({}), json!({"nodeAffinityPolicy": "Ignore"}), true),
        (json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}), json!({"nodeAffinityPolicy": "Ignore"}), true),
        (
            json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}),
            json!({"nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"}),
            false,
        ),
    ] {
        let mut world = World::new(&["a1"]);
        world.node("b1", spec.clone());
        world.put("a1", &plain("web"));
        let mut pod = spread("web", &constraint);
        pod["spec"]["nodeSelector"] = json!({HOST: "a1"});
        assert_eq!(world.come(&pod).contains(blocked), counts, "{spec} {constraint}");
    }
    // Fewer domains than wanted: the emptiest counts as empty.
    let mut world = World::new(&["a1"]);
    let wide = spread("web", &json!({"minDomains": 2}));
    assert_eq!(world.come(&wide), "a1");
    assert!(world.come(&wide).contains(blocked));
    world.node("b1", json!({}));
    assert_eq!(world.come(&wide), "b1");
}

#[test]
fn soft_rules_rank_and_never_refuse() {
    let mut world = World::new(&["a1", "b1"]);
    let soft = spread("web", &json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    world.put("a1", &plain("web"));
    assert_eq!(world.come(&soft), "b1");
    world.node("b1", json!({"unschedulable": true}));
    assert_eq!(world.come(&soft), "a1");
    let prefers = |rule: &str, app: &str| {
        let terms = json!([{"weight": 10, "podAffinityTerm": term(app, HOST)}]);
        let affinity = json!({rule: {"preferredDuringSchedulingIgnoredDuringExecution": terms}});
        pod("shop", json!({"app": "w"}), json!({"affinity": affinity}))
    };
    let mut world = World::new(&["a1", "b1"]);
    world.put("b1", &plain("db"));
    world.put("b1", &plain("db"));
    assert_eq!(world.come(&prefers("podAffinity", "db")), "b1", "fuller, and preferred");
    assert_eq!(world.come(&prefers("podAntiAffinity", "db")), "a1");
}

proptest! {
    /// Whatever comes in whatever order: nobody lies where somebody there, or the one that came, would not have it, and
    /// no placement makes a skew of more than is allowed.
    #[test]
    fn no_placement_breaks_a_rule(
        arrivals in prop::collection::vec((0usize..3, any::<bool>(), 0usize..3, any::<bool>()), 1..25),
    ) {
        let mut world = World::new(&["a1", "a2", "b1", "b2", "c1"]);
        let apps: [&'static str; 3] = ["x", "y", "z"];
        // Node, app, and whom it would not have beside it in which domain.
        type Arrived = (String, &'static str, Option<(&'static str, &'static str)>);
        let mut placed: Vec<Arrived> = Vec::new();
        for (app, keeps_apart, other, by_zone) in arrivals {
            let (app, key) = (apps[app], if by_zone { ZONE } else { HOST });
            let rule = keeps_apart.then_some((apps[other], key));
            let pod = match rule {
                Some((other, key)) => ruled(app, "podAntiAffinity", &[term(other, key)]),
                None => spread(app, &json!({"topologyKey": key})),
            };
            let node = world.come(&pod);
            if node.starts_with("0/") {
                continue;
            }
            let together = |one: &str, two: &str, key: &str| if key == ZONE { one[..1] == two[..1] } else { one == two };
            for (there, its_app, its_rule) in &placed {
                if let Some((other, key)) = rule {
                    prop_assert!(*its_app != other || !together(&node, there, key), "{app} came to {node}");
                }
                if let Some((other, key)) = its_rule {
                    prop_assert!(app != *other || !together(&node, there, key), "{app} came to {node} beside {its_app}");
                }
            }
            placed.push((node.clone(), app, rule));
            if rule.is_none() {
                let domain = |node: &str| if by_zone { node[..1].to_owned() } else { node.to_owned() };
                let mut counts: BTreeMap<String, i64> =
                    ["a1", "a2", "b1", "b2", "c1"].iter().map(|node| (domain(node), 0)).collect();
                for (there, _, _) in placed.iter().filter(|(_, its_app, _)| *its_app == app) {
                    *counts.entry(domain(there)).or_default() += 1;
                }
                let least = counts.values().copied().min().unwrap_or(0);
                prop_assert!(counts[&domain(&node)] - least <= 1, "{app} came to {node}: {counts:?}");
            }
        }
    }
}
