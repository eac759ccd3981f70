//! The expressions of classic Swarm on a node: [`drover_api::placement`] has the grammar, here is what they look at.
//!
//! A constraint looks at a label of the node, `node` (its name) or what Swarm knew of every engine: `kernelversion`,
//! `operatingsystem`, `ostype`. An affinity looks at the node's pods: `container` (names of pods and containers), `image`
//! (images of the node and of its pods), or a label of pods. Soft ones rank: each that holds counts as a preferred term
//! of the highest weight; Swarm dropped all of them when not all could be had.

use std::collections::BTreeMap;

use drover_api::placement::{Expression, Rules, SLOTS};
use k8s_openapi::api::core::v1::Node;

use super::filter::Refusal;
use super::node::{NodeState, Offer};
use super::shape::Shape;

/// What a soft expression that holds is worth: the most that a preferred term may be.
const SOFT_WEIGHT: i64 = 100;

/// Reads what Swarm knew of every engine.
pub(super) fn facts(node: &Node) -> BTreeMap<&'static str, String> {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let known = info.map(|info| {
        [
            ("kernelversion", info.kernel_version.clone()),
            ("operatingsystem", info.os_image.clone()),
            ("ostype", info.operating_system.clone()),
        ]
    });
    known.into_iter().flatten().collect()
}

/// Checks the expressions that are not soft, and the node's label of slots.
pub(super) fn check(shape: &Shape, name: &str, node: &NodeState, offer: &Offer) -> Result<(), Refusal> {
    let Rules { constraints, affinities, .. } = shape
        .classic
        .as_ref()
        .map_err(|why| Refusal::new("no node can satisfy an expression that is none", why.as_str()))?;
    let slots = offer.labels.get(SLOTS).and_then(|text| text.parse::<usize>().ok());
    if let Some(slots) = slots.filter(|slots| node.pods.len() >= *slots) {
        return Err(Refusal::new("node(s) had no free container slots", format!("{} of {slots}", node.pods.len())));
    }
    let unmet = constraints.iter().find(|expression| !expression.soft && !constraint_holds(expression, name, offer));
    if let Some(expression) = unmet.filter(|_| !drover_api::mutants::active("S10-constraint-ignored")) {
        let is = attribute(&expression.key, name, offer).unwrap_or_default();
        return Err(Refusal::new(
            format!("node(s) didn't satisfy the constraint {expression}"),
            format!("it is {is:?}"),
        ));
    }
    let unmet = affinities.iter().find(|expression| !expression.soft && !affinity_holds(expression, node, offer));
    match unmet {
        Some(expression) => Err(Refusal::new(format!("node(s) didn't satisfy the affinity {expression}"), "")),
        None => Ok(()),
    }
}

/// What the soft expressions that hold are worth.
pub(super) fn preference(shape: &Shape, name: &str, node: &NodeState, offer: &Offer) -> i64 {
    let Ok(Rules { constraints, affinities, .. }) = &shape.classic else { return 0 };
    let constraints =
        constraints.iter().filter(|expression| expression.soft && constraint_holds(expression, name, offer));
    let affinities = affinities.iter().filter(|expression| expression.soft && affinity_holds(expression, node, offer));
    SOFT_WEIGHT.saturating_mul(i64::try_from(constraints.count() + affinities.count()).unwrap_or(i64::MAX))
}

fn constraint_holds(expression: &Expression, name: &str, offer: &Offer) -> bool {
    expression.holds(attribute(&expression.key, name, offer).into_iter())
}

fn attribute<'a>(key: &str, name: &'a str, offer: &'a Offer) -> Option<&'a str> {
    if key == "node" {
        return Some(name);
    }
    offer.labels.get(key).or_else(|| offer.facts.get(key)).map(String::as_str)
}

/// Nothing on the node is nothing, and not the empty name: `image!=redis` holds there, `image==*` does not.
fn affinity_holds(expression: &Expression, node: &NodeState, offer: &Offer) -> bool {
    let pods = || node.pods.values();
    let found = match expression.key.as_str() {
        "container" => pods().flat_map(|pod| &pod.names).any(|name| expression.matches(name)),
        "image" => {
            let images = offer.images.iter().chain(pods().flat_map(|pod| &pod.images));
            images.into_iter().any(|image| names_of(image).any(|name| expression.matches(name)))
        }
        label => pods().filter_map(|pod| pod.labels.get(label)).any(|value| expression.matches(value)),
    };
    found != expression.negated
}

/// `redis:7` is also `redis`.
fn names_of(image: &str) -> impl Iterator<Item = &str> {
    let tag = image.rfind(':').filter(|colon| !image[*colon..].contains('/'));
    std::iter::once(image).chain(tag.map(|colon| &image[..colon]))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    use crate::scheduler::index::Index;
    use crate::scheduler::node::Offer;
    use crate::scheduler::place::place;
    use crate::scheduler::rank::Strategy;
    use crate::scheduler::shape::{Placed, Shape};

    fn index(nodes: &[(&str, Value)]) -> Index {
        let mut index = Index::default();
        for (name, labels) in nodes {
            let node = json!({"metadata": {"name": name, "labels": labels}, "status": {
                "allocatable": {"cpu": "100", "memory": "100Gi", "pods": "100"},
                "images": [{"names": [format!("only-on-{name}:1")], "sizeBytes": 1}],
                "nodeInfo": {"kernelVersion": "6.1.0", "osImage": "Debian GNU/Linux 12", "operatingSystem": "linux",
                    "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "", "machineID": "", "systemUUID": ""},
                "conditions": [{"type": "Ready", "status": "True"}]}});
            let node: Node = serde_json::from_value(node).unwrap();
            index.set_node(name, Offer::read(&node));
        }
        index
    }

    /// A pod that `docker run -e EXPRESSION…` would have made.
    fn pod(name: &str, expressions: &[&str]) -> Pod {
        let entry = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap();
            json!({"name": name, "value": value})
        };
        let environment: Vec<Value> = expressions.iter().map(entry).collect();
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "labels": {"type": name}}, "spec": {
            "containers": [{"name": "c", "image": format!("{name}:7"), "env": environment}]}}))
        .unwrap()
    }

    /// Every node on which the pod may go, or why it goes nowhere.
    fn fitting(index: &mut Index, expressions: &[&str]) -> String {
        let decision = place(index, &Shape::read(&pod("p", expressions)), &[], Strategy::Spread, 0);
        let fitting = decision.trace.nodes.iter().filter(|verdict| verdict.fits).map(|verdict| verdict.node.clone());
        let mut fitting: Vec<String> = fitting.collect();
        fitting.sort_unstable();
        if fitting.is_empty() { decision.node.unwrap_err() } else { fitting.join(" ") }
    }

    fn three() -> Index {
        index(&[
            ("node1", json!({"storage": "ssd", "region": "us-east"})),
            ("node2", json!({"storage": "hdd", "region": "us-west"})),
            ("node3", json!({"region": "eu"})),
        ])
    }

    #[test]
    fn sw_03_and_04_constraints_pick_the_documented_nodes() {
        for (expressions, expected) in [
            (vec!["constraint:storage==ssd"], "node1"),
            (vec!["constraint:region!=us*"], "node3"),
            (vec!["constraint:node==/node[12]/"], "node1 node2"),
            (vec!["constraint:node==/(?i)NODE1/"], "node1"),
            (vec!["constraint:region==us*", "constraint:storage!=ssd"], "node2"),
            (vec!["constraint:storage!=ssd"], "node2 node3"),
            (vec!["constraint:kernelversion==6.*", "constraint:ostype==linux"], "node1 node2 node3"),
            (vec!["constraint:operatingsystem==*Debian*"], "node1 node2 node3"),
            (
                vec!["constraint:region==asia"],
                "0/3 nodes are available: 3 node(s) didn't satisfy the constraint region==asia.",
            ),
            (vec!["constraint:region==~asia"], "node1 node2 node3"),
        ] {
            assert_eq!(fitting(&mut three(), &expressions), expected, "{expressions:?}");
        }
    }

    #[test]
    fn sw_05_affinities_look_at_the_pods_and_images_of_a_node() {
        let mut index = three();
        index.set_pod("frontend", "node2", Placed::read(&pod("frontend", &[])));
        for (expressions, expected) in [
            (vec!["affinity:container==frontend"], "node2"),
            (vec!["affinity:container!=front*"], "node1 node3"),
            (vec!["affinity:image==frontend"], "node2"),
            (vec!["affinity:image==frontend:7"], "node2"),
            (vec!["affinity:image==only-on-node3"], "node3"),
            (vec!["affinity:type==frontend"], "node2"),
            (vec!["affinity:type!=/front/"], "node1 node3"),
            (
                vec!["affinity:container==nobody"],
                "0/3 nodes are available: 3 node(s) didn't satisfy the affinity container==nobody.",
            ),
        ] {
            assert_eq!(fitting(&mut index, &expressions), expected, "{expressions:?}");
        }
        let apart = Shape::read(&pod("p", &["affinity:type!=~frontend", "constraint:region==us*"]));
        assert_eq!(place(&mut index, &apart, &[], Strategy::Binpack, 0).node.unwrap(), "node1");
    }

    #[test]
    fn sw_06_of_two_soft_expressions_the_one_that_can_be_had_counts() {
        let soft = ["constraint:region==~asia", "constraint:storage==~hdd"];
        let chosen = place(&mut three(), &Shape::read(&pod("p", &soft)), &[], Strategy::Spread, 0);
        assert_eq!(chosen.node.unwrap(), "node2");
    }

    #[test]
    fn sw_10_a_node_takes_as_many_as_it_has_slots() {
        let mut index = index(&[("a", json!({"containerslots": "3"})), ("b", json!({"containerslots": "none"}))]);
        for number in 0..3 {
            index.set_pod(&format!("p{number}"), "a", Placed::read(&pod("x", &[])));
        }
        assert_eq!(fitting(&mut index, &[]), "b", "a label that is no number sets no limit");
        index.remove_pod("p1");
        assert_eq!(fitting(&mut index, &[]), "a b");
    }

    #[test]
    fn sw_11_annotations_say_the_same() {
        let mut pod = pod("p", &[]);
        let annotations = [("com.docker.swarm.constraints", r#"["region==us*", "storage==ssd"]"#)];
        pod.metadata.annotations =
            Some(annotations.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
        assert_eq!(place(&mut three(), &Shape::read(&pod), &[], Strategy::Spread, 0).node.unwrap(), "node1");
    }

    #[test]
    fn what_is_no_expression_waits_with_the_reason() {
        let refused = fitting(&mut three(), &["constraint:storage=ssd"]);
        assert_eq!(refused, "0/3 nodes are available: 3 no node can satisfy an expression that is none.");
    }
}
