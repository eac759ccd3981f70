//! The decision: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_api::ingress::{NODE_ROLE, SERVING, STATE};
use drover_routing::ingress::{Input, Owner, desired, is_ours, owner};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::{
    Ingress, IngressClass, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressStatus,
};

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// All Ingresses.
    pub ingresses: Vec<Arc<Ingress>>,
    /// All classes.
    pub classes: Vec<Arc<IngressClass>>,
    /// All Services.
    pub services: Vec<Arc<Service>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
}

/// What becomes of one Ingress of ours.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The Ingress.
    pub ingress: Arc<Ingress>,
    /// Where it is served.
    pub status: IngressStatus,
    /// A word and a sentence for each thing that it asks for in vain.
    pub problems: Vec<(&'static str, String)>,
}

/// What a node offers to Ingresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is not chosen.
    Nothing,
    /// It serves, under this address.
    Serves(Option<String>),
    /// It is chosen and does not serve, for this reason.
    Lacks(String),
}

/// Plans the status of every Ingress whose class is ours.
pub fn plan(observed: &Observed) -> Vec<Planned> {
    let input = Input {
        ingresses: observed.ingresses.clone(),
        classes: observed.classes.clone(),
        services: observed.services.clone(),
        ..Input::default()
    };
    let mut problems: BTreeMap<Owner, Vec<(&'static str, String)>> = BTreeMap::new();
    for problem in desired(&input).problems {
        problems.entry(problem.ingress).or_default().push((problem.reason, problem.message));
    }
    let (addresses, complaint) = places(&observed.nodes);
    let points = |address: &String| IngressLoadBalancerIngress { ip: Some(address.clone()), ..Default::default() };
    let points: Vec<_> = addresses.iter().map(points).collect();
    let load_balancer = (!points.is_empty()).then_some(IngressLoadBalancerStatus { ingress: Some(points) });
    let ours = observed.ingresses.iter().filter(|ingress| is_ours(ingress, &observed.classes));
    ours.map(|ingress| {
        let mut problems = problems.remove(&owner(ingress)).unwrap_or_default();
        problems.extend(complaint.clone());
        let status = IngressStatus { load_balancer: load_balancer.clone() };
        Planned { ingress: ingress.clone(), status, problems }
    })
    .collect()
}

/// Where Ingresses are served, and why nowhere.
fn places(nodes: &[Arc<Node>]) -> (Vec<String>, Option<(&'static str, String)>) {
    let (mut addresses, mut lacks) = (Vec::new(), Vec::new());
    for node in nodes {
        match offer(node) {
            Offer::Nothing => {}
            Offer::Serves(address) => addresses.extend(address),
            Offer::Lacks(why) => lacks.push(format!("{}: {why}", node.metadata.name.as_deref().unwrap_or_default())),
        }
    }
    addresses.sort();
    lacks.sort();
    let complaint = match (addresses.is_empty(), lacks.is_empty()) {
        (false, _) => None,
        (true, false) => Some(("NotServed", lacks.join("; "))),
        (true, true) => {
            let how = format!("no node serves Ingresses; choose one with: kubectl label node NAME {NODE_ROLE}=");
            Some(("NoIngressNode", how))
        }
    };
    (addresses, complaint)
}

/// What a node offers: chosen by its label, in its agent's own words.
pub(super) fn offer(node: &Node) -> Offer {
    if !node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(NODE_ROLE)) {
        return Offer::Nothing;
    }
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let said = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(STATE));
    match said.map(String::as_str) {
        _ if !ready => Offer::Lacks("the node is not ready".to_owned()),
        Some(SERVING) => {
            let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
            let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
            Offer::Serves(internal.next().map(|address| address.address.clone()))
        }
        Some(why) => Offer::Lacks(why.to_owned()),
        None => Offer::Lacks("its agent has not said yet whether it serves".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<K: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<Arc<K>> {
        values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).expect("an object"))).collect()
    }

    fn node(name: &str, labels: &Value, said: Option<&str>, ready: &str) -> Value {
        let annotations: BTreeMap<_, _> = said.into_iter().map(|said| (STATE, said)).collect();
        json!({"metadata": {"name": name, "labels": labels, "annotations": annotations},
            "status": {"conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", name.len())}]}})
    }

    /// Where the one Ingress is served, and what is said of it.
    fn planned(nodes: &[Value]) -> (Vec<String>, Vec<&'static str>) {
        let class =
            |name: &str, controller: &str| json!({"metadata": {"name": name}, "spec": {"controller": controller}});
        let ingress = |name: &str, class: &str| {
            json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"ingressClassName": class,
                "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}})
        };
        let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"ports": [{"port": 80}]}});
        let planned = plan(&Observed {
            ingresses: read(&[ingress("ours", "haproxy"), ingress("theirs", "nginx")]),
            classes: read(&[class("haproxy", "drover.dev/haproxy"), class("nginx", "k8s.io/ingress-nginx")]),
            services: read(&[service]),
            nodes: read(nodes),
        });
        let [Planned { ingress, status, problems }] = planned.as_slice() else { panic!("{planned:?}") };
        assert_eq!(ingress.metadata.name.as_deref(), Some("ours"));
        let points = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
        (points.filter_map(|point| point.ip.clone()).collect(), problems.iter().map(|(reason, _)| *reason).collect())
    }

    #[test]
    fn an_ingress_is_where_chosen_nodes_serve() {
        let chosen = json!({NODE_ROLE: ""});
        assert_eq!(planned(&[node("a", &json!({}), Some(SERVING), "True")]), (vec![], vec!["NoIngressNode"]));
        for (said, ready) in [(None, "True"), (Some("HAProxy is not installed"), "True"), (Some(SERVING), "Unknown")] {
            assert_eq!(planned(&[node("a", &chosen, said, ready)]), (vec![], vec!["NotServed"]));
        }
        let nodes = [
            node("bb", &chosen, Some(SERVING), "True"),
            node("a", &chosen, Some(SERVING), "True"),
            node("ccc", &chosen, Some("HAProxy is not installed"), "True"),
        ];
        assert_eq!(planned(&nodes), (vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()], vec![]));
    }
}
