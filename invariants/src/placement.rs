//! S10 and S13: what is placed where, and under which address.
//!
//! The requests of a node's pods fit what it offers, no two want one port of the host, and nothing is bound to a node
//! that has refused new pods for a while. An address comes from the range of the pod's node: an agent cannot claim
//! another's.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::{
    api::core::v1::{Container, Node, Pod, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{Violation, World, facts, quantity::thousandths};

/// How long the scheduler may take to hear that a node takes no more pods.
const NEWS_SECS: f64 = 2.0;
const CORDON: &str = "node.kubernetes.io/unschedulable";

type Amounts = BTreeMap<String, i128>;

pub(crate) fn check(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in &world.nodes {
        let name = facts::name(&node.metadata);
        let here: Vec<&Pod> =
            world.pods.iter().filter(|pod| facts::node_of(pod) == Some(name) && !facts::is_finished(pod)).collect();
        let subject = format!("Node/{name}");
        let (used, offered) = (used(&here), offered(node));
        for (resource, asked) in &used {
            let total = offered.get(resource).copied().unwrap_or(0);
            if *asked > total {
                let message = format!("its pods ask for {asked} thousandths of {resource}, it offers {total}");
                violations.push(Violation::new("S10", &subject, message));
            }
        }
        for (port, pods) in host_ports(&here) {
            if pods.len() > 1 {
                violations.push(Violation::new(
                    "S10",
                    &subject,
                    format!("{} all have host port {port}", pods.join(", ")),
                ));
            }
        }
    }
    violations
}

fn used(pods: &[&Pod]) -> Amounts {
    let mut used = Amounts::new();
    for pod in pods.iter().filter_map(|pod| pod.spec.as_ref()) {
        // A pod that the scheduler did not place is not its mistake, yet takes room all the same.
        for (resource, amount) in requests(pod) {
            *used.entry(resource).or_insert(0) += amount;
        }
        *used.entry("pods".to_owned()).or_insert(0) += 1000;
    }
    used.retain(|_, amount| *amount > 0);
    used
}

/// What a pod asks for: its containers together, or the largest of what runs before them, and the overhead.
pub(crate) fn requests(spec: &PodSpec) -> Amounts {
    let mut total = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut total, &asked(container)));
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for init in spec.init_containers.iter().flatten() {
        let mut now = sidecars.clone();
        add(&mut now, &asked(init));
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.clone_from(&now);
        }
        for (resource, amount) in now {
            let most = peak.entry(resource).or_insert(0);
            *most = amount.max(*most);
        }
    }
    add(&mut total, &sidecars);
    for (resource, amount) in peak {
        let most = total.entry(resource).or_insert(0);
        *most = amount.max(*most);
    }
    add(&mut total, &read(spec.overhead.as_ref()));
    total
}

fn asked(container: &Container) -> Amounts {
    read(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

fn add(total: &mut Amounts, more: &Amounts) {
    more.iter().for_each(|(resource, amount)| *total.entry(resource.clone()).or_insert(0) += amount);
}

fn read(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let all = quantities.into_iter().flatten();
    all.filter_map(|(resource, amount)| Some((resource.clone(), thousandths(&amount.0)?))).collect()
}

pub(crate) fn offered(node: &Node) -> Amounts {
    read(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

/// Whether the requests of one more pod fit a node beside those that it has.
pub(crate) fn fits(world: &World, node: &Node, pod: &PodSpec) -> bool {
    let name = facts::name(&node.metadata);
    let here: Vec<&Pod> =
        world.pods.iter().filter(|pod| facts::node_of(pod) == Some(name) && !facts::is_finished(pod)).collect();
    let mut used = used(&here);
    add(&mut used, &requests(pod));
    *used.entry("pods".to_owned()).or_insert(0) += 1000;
    let offered = offered(node);
    used.iter().all(|(resource, amount)| *amount <= offered.get(resource).copied().unwrap_or(0))
}

fn host_ports(pods: &[&Pod]) -> BTreeMap<String, Vec<String>> {
    let mut taken: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in pods {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        for port in containers.flat_map(|container| container.ports.iter().flatten()) {
            let Some(number) = port.host_port.filter(|number| *number > 0) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let address = port.host_ip.as_deref().filter(|address| *address != "0.0.0.0").unwrap_or_default();
            let name = facts::name(&pod.metadata).to_owned();
            taken.entry(format!("{number}/{protocol} {address}")).or_default().push(name);
        }
    }
    taken
}

/// A pod was bound to a node that had taken no new pods for a while, and it does not tolerate that.
pub(crate) fn check_step(before: &World, after: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for pod in after.pods.iter().filter(|pod| !facts::is_terminating(&pod.metadata)) {
        let was = before.pods.iter().find(|was| facts::uid(&was.metadata) == facts::uid(&pod.metadata));
        let Some(node) = facts::node_of(pod).filter(|_| was.is_some_and(|was| facts::node_of(was).is_none())) else {
            continue;
        };
        let refuses = |world: &World| {
            let node = world.nodes.iter().find(|found| facts::name(&found.metadata) == node);
            node.and_then(|node| refusal(world, node, pod))
        };
        if let Some(why) = refuses(before).filter(|_| refuses(after).is_some()) {
            let message = format!("was bound to {node}, which {why}");
            violations.push(Violation::new("S10", facts::subject("Pod", &pod.metadata), message));
        }
    }
    violations
}

fn refusal(world: &World, node: &Node, pod: &Pod) -> Option<&'static str> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let tolerated = tolerations.into_iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        (key.is_empty() || key == CORDON) && toleration.operator.as_deref() == Some("Exists")
    });
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    if cordoned && !tolerated && world.quiet_secs >= NEWS_SECS {
        return Some("is cordoned");
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref()?.0;
    let old_news = world.now.duration_since(since).as_secs_f64() >= NEWS_SECS;
    (ready.status != "True" && old_news).then_some("is not ready")
}

/// S13: the addresses of pods are from the ranges of their nodes.
pub(crate) fn check_addresses(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for pod in world.pods.iter().filter(|pod| !facts::is_finished(pod)) {
        let node = world.nodes.iter().find(|node| Some(facts::name(&node.metadata)) == facts::node_of(pod));
        let Some(range) = node.and_then(|node| node.spec.as_ref()?.pod_cidr.as_deref()) else { continue };
        for address in facts::addresses(pod).into_iter().filter_map(|text| text.parse::<Ipv4Addr>().ok()) {
            if !contains(range, address) {
                let message = format!("has the address {address}, its node the range {range}");
                violations.push(Violation::new("S13", facts::subject("Pod", &pod.metadata), message));
            }
        }
    }
    violations
}

fn contains(range: &str, address: Ipv4Addr) -> bool {
    let Some((base, length)) = range.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<Ipv4Addr>(), length.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32u32.saturating_sub(length)).unwrap_or(0);
    u32::from(base) & mask == u32::from(address) & mask
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{check_tables, good, object, pod};

    fn asking(number: u32, cpu: &str, port: Option<i32>) -> Pod {
        let mut pod = pod(number, "n1");
        let ports = port.map(|port| json!([{"containerPort": 80, "hostPort": port}]));
        pod.spec = Some(object(&json!({"nodeName": "n1", "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}, "ports": ports}]})));
        // Not of the Deployment, so that no rule of sizes is in the way.
        pod.metadata.owner_references = None;
        pod
    }

    #[test]
    fn a_node_holds_no_more_than_it_offers() {
        check_tables(&[
            ("what fits", &|world| world.pods.push(asking(8, "1900m", None)), &[]),
            ("too much of one thing", &|world| world.pods.push(asking(8, "2100m", None)), &["S10"]),
            (
                "one port twice",
                &|world| world.pods.extend([asking(8, "1m", Some(80)), asking(9, "1m", Some(80))]),
                &["S10"],
            ),
            ("two ports", &|world| world.pods.extend([asking(8, "1m", Some(80)), asking(9, "1m", Some(81))]), &[]),
            (
                "too many pods",
                &|world| (10..20).for_each(|number| world.pods.push(asking(number, "1m", None))),
                &["S10"],
            ),
            (
                "an address of another node",
                &|world| world.pods[0].spec.get_or_insert_default().node_name = Some("n2".into()),
                &["S13"],
            ),
        ]);
    }

    #[test]
    fn requests_are_the_larger_of_before_and_while() {
        let spec = json!({"overhead": {"cpu": "1m"}, "initContainers": [
            {"name": "a", "resources": {"requests": {"cpu": "30m"}}},
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "5m"}}},
            {"name": "b", "resources": {"requests": {"cpu": "40m"}}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "20m"}}}]});
        assert_eq!(requests(&object(&spec)), BTreeMap::from([("cpu".to_owned(), 46)]));
    }

    #[test]
    fn nothing_is_bound_to_a_node_that_refuses() {
        let mut before = good();
        before.quiet_secs = 3.0;
        before.nodes[0].spec.get_or_insert_default().unschedulable = Some(true);
        let mut after = before.clone();
        before.pods[0].spec.get_or_insert_default().node_name = None;
        assert_eq!(check_step(&before, &after).len(), 1);
        after.nodes[0].spec.get_or_insert_default().unschedulable = None;
        assert_eq!(check_step(&before, &after), [], "it may have been uncordoned first");
        before.nodes[0].status = Some(object(&json!({"conditions": [
            {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T11:59:00Z"}]})));
        after.nodes = before.nodes.clone();
        assert_eq!(check_step(&before, &after).len(), 1, "not ready for a minute");
    }
}
