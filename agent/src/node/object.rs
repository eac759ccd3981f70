//! Builds the Node's labels and status: pure.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerImage, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{HostFacts, HostPressure};
use crate::{
    engine::{EngineInfo, ImageSummary},
    status::time,
};

/// Pods that one node takes (issue: an engine of two cores serves hundreds of small containers).
const PODS_MAX: u32 = 500;
/// Images listed in the status (kubelet: 50), the largest first.
const IMAGES_MAX: usize = 50;

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeIdentity {
    /// The Node's name.
    pub name: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Labels given by the operator.
    pub labels: BTreeMap<String, String>,
}

/// What a status is built from.
#[derive(Debug, Clone)]
pub struct NodeInput<'a> {
    /// Who the node is.
    pub identity: &'a NodeIdentity,
    /// The engine's words, from when it last answered.
    pub engine: &'a EngineInfo,
    /// The host.
    pub facts: &'a HostFacts,
    /// What is short.
    pub pressure: HostPressure,
    /// Why the node cannot run pods: a machine reason and a sentence; `None` when it can.
    pub trouble: Option<(&'a str, &'a str)>,
    /// The images present.
    pub images: Vec<ImageSummary>,
    /// The conditions as they were, for transition times.
    pub before: &'a [NodeCondition],
    /// Now.
    pub now: Timestamp,
}

/// The labels every node has, with the operator's. Of an engine that never answered nothing is said.
pub fn build_labels(identity: &NodeIdentity, engine: &EngineInfo) -> BTreeMap<String, String> {
    let mut labels = identity.labels.clone();
    let arch = Some(architecture(&engine.architecture)).filter(|arch| !arch.is_empty());
    let own = [("kubernetes.io/hostname", identity.name.as_str()), ("kubernetes.io/os", "linux")];
    let own = own.into_iter().chain(arch.map(|arch| ("kubernetes.io/arch", arch)));
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

/// Builds the status of a Node. What only the engine can tell is left as it was said last while none has answered yet.
pub fn build_status(input: &NodeInput<'_>) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let mut addresses: Vec<NodeAddress> =
        input.identity.address.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    addresses.push(address("Hostname", input.identity.name.clone()));
    let known = input.engine.is_known() || drover_api::mutants::active("S10-capacity-of-no-engine");
    let capacity = known.then(|| capacity(input));
    NodeStatus {
        addresses: Some(addresses),
        allocatable: capacity.clone(),
        capacity,
        conditions: Some(conditions(input)),
        daemon_endpoints: Some(NodeDaemonEndpoints::default()),
        images: Some(images(&input.images)),
        node_info: known.then(|| node_info(input)),
        ..Default::default()
    }
}

fn capacity(input: &NodeInput<'_>) -> BTreeMap<String, Quantity> {
    let engine = input.engine;
    let amounts = [
        ("cpu", engine.cpus.to_string()),
        ("memory", format!("{}Ki", engine.memory_bytes / 1024)),
        ("pods", input.facts.pods_max.unwrap_or(PODS_MAX).to_string()),
        ("ephemeral-storage", format!("{}Ki", input.facts.disk_bytes / 1024)),
    ];
    amounts.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount))).collect()
}

fn node_info(input: &NodeInput<'_>) -> NodeSystemInfo {
    let engine = input.engine;
    NodeSystemInfo {
        architecture: architecture(&engine.architecture).to_owned(),
        boot_id: input.facts.boot_id.clone(),
        container_runtime_version: format!("docker://{}", engine.version),
        kernel_version: engine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: "v1.33.0+drover".to_owned(),
        machine_id: input.facts.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: engine.os_image.clone(),
        system_uuid: engine.id.clone(),
        ..Default::default()
    }
}

fn conditions(input: &NodeInput<'_>) -> Vec<NodeCondition> {
    let pressure = |type_, short: bool, bad: &str, good: &str, what: &str| {
        let reason = if short { bad } else { good };
        let verb = if short { "is short of" } else { "has sufficient" };
        (type_, short, reason.to_owned(), format!("the node {verb} {what}"))
    };
    let ready = match input.trouble {
        None => ("Ready", true, "AgentReady".to_owned(), "the agent runs pods".to_owned()),
        Some((reason, message)) => ("Ready", false, reason.to_owned(), message.to_owned()),
    };
    let verdicts = [
        pressure("MemoryPressure", input.pressure.memory, "InsufficientMemory", "SufficientMemory", "memory"),
        pressure("DiskPressure", input.pressure.disk, "InsufficientDisk", "SufficientDisk", "disk space"),
        pressure("PIDPressure", input.pressure.pids, "InsufficientPIDs", "SufficientPIDs", "process ids"),
        ready,
    ];
    verdicts
        .into_iter()
        .map(|(type_, status, reason, message)| {
            let status = if status { "True" } else { "False" }.to_owned();
            let before = input.before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
            let since = before.and_then(|condition| condition.last_transition_time.clone());
            NodeCondition {
                type_: type_.to_owned(),
                status,
                reason: Some(reason),
                message: Some(message),
                last_heartbeat_time: Some(time(input.now)),
                last_transition_time: Some(since.unwrap_or_else(|| time(input.now))),
            }
        })
        .collect()
}

fn images(images: &[ImageSummary]) -> Vec<ContainerImage> {
    let mut named: Vec<&ImageSummary> = images.iter().filter(|image| !image.tags.is_empty()).collect();
    named.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.tags.cmp(&b.tags)));
    let listed = named.into_iter().take(IMAGES_MAX);
    listed
        .map(|image| ContainerImage {
            names: Some(image.digests.iter().chain(&image.tags).take(5).cloned().collect()),
            size_bytes: Some(image.size_bytes),
        })
        .collect()
}

/// Kubernetes names architectures as Go does.
fn architecture(kernel: &str) -> &str {
    match kernel {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(trouble: Option<(&str, &str)>, before: &[NodeCondition], second: i64) -> NodeStatus {
        let engine = EngineInfo {
            cpus: 2,
            memory_bytes: 4 << 30,
            architecture: "x86_64".to_owned(),
            version: "20.10.24".to_owned(),
            ..Default::default()
        };
        status_on(&engine, trouble, before, second)
    }

    fn status_on(
        engine: &EngineInfo,
        trouble: Option<(&str, &str)>,
        before: &[NodeCondition],
        second: i64,
    ) -> NodeStatus {
        let identity = NodeIdentity { name: "n1".to_owned(), address: "192.0.2.7".parse().ok(), ..Default::default() };
        let facts = HostFacts { disk_bytes: 1 << 30, ..Default::default() };
        build_status(&NodeInput {
            identity: &identity,
            engine,
            facts: &facts,
            pressure: HostPressure::default(),
            trouble,
            images: Vec::new(),
            before,
            now: Timestamp::from_second(second).expect("a second"),
        })
    }

    #[test]
    fn a_node_says_what_it_has_and_that_it_is_ready() {
        let status = status(None, &[], 100);
        let capacity = status.capacity.expect("capacity");
        let amounts: Vec<_> = capacity.iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect();
        assert_eq!(amounts, ["cpu=2", "ephemeral-storage=1048576Ki", "memory=4194304Ki", "pods=500"]);
        assert_eq!(status.node_info.expect("info").architecture, "amd64");
        let ready = status.conditions.expect("conditions").pop().expect("Ready is last");
        assert_eq!((ready.type_.as_str(), ready.status.as_str()), ("Ready", "True"));
    }

    #[test]
    fn an_engine_that_does_not_answer_makes_the_node_unready_and_dates_the_change() {
        let healthy = status(None, &[], 100).conditions.expect("conditions");
        let trouble = Some(("RuntimeUnhealthy", "the container engine does not answer"));
        let sick = status(trouble, &healthy, 200).conditions.expect("conditions");
        let ready = sick.last().expect("Ready is last");
        assert_eq!(ready.reason.as_deref(), Some("RuntimeUnhealthy"));
        assert_eq!(ready.last_transition_time.as_ref().map(|time| time.0.as_second()), Some(200));
        assert_eq!(sick[0].last_transition_time.as_ref().map(|time| time.0.as_second()), Some(100));
    }

    #[test]
    fn before_the_engine_answers_nothing_is_said_of_it() {
        let (engine, trouble) = (EngineInfo::default(), Some(("RuntimeUnhealthy", "no answer")));
        let status = status_on(&engine, trouble, &[], 100);
        assert_eq!((status.capacity, status.allocatable, status.node_info), (None, None, None));
        assert!(status.addresses.is_some() && status.conditions.is_some());
        assert!(!build_labels(&NodeIdentity::default(), &engine).contains_key("kubernetes.io/arch"));
    }
}
