//! What a pod contributes to a Service: addresses, conditions, resolved ports. Pure.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::objects::{owners, pods};

/// The parts of a pod's status and spec that endpoints are made from.
#[derive(Debug, PartialEq)]
pub(super) struct Essence<'a> {
    ready: bool,
    serving: bool,
    finished: bool,
    addresses: Vec<&'a str>,
    node: Option<&'a str>,
    host_name: Option<&'a str>,
}

/// Returns what endpoints are made from, for comparison.
pub(super) fn essence(pod: &Pod) -> Essence<'_> {
    Essence {
        ready: gates_pass(pod),
        serving: pods::is_true(pod, "ContainersReady"),
        finished: pods::is_finished(pod),
        addresses: addresses(pod),
        node: pods::node_name(pod),
        host_name: host_name(pod),
    }
}

/// Whether the containers are ready and every readiness gate is open. The Ready condition itself is not asked: the
/// node sets it only after the proxies have acknowledged the endpoint that is made here.
fn gates_pass(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    pods::is_true(pod, "ContainersReady") && gates.into_iter().all(|gate| pods::is_true(pod, &gate.condition_type))
}

/// Returns the conditions of a pod's endpoint.
pub(super) fn conditions(pod: &Pod, publish_not_ready: bool) -> EndpointConditions {
    let terminating =
        owners::is_terminating(&pod.metadata) && !drover_api::mutants::active("E03-terminating-stays-ready");
    let serving = pods::is_true(pod, "ContainersReady");
    EndpointConditions {
        ready: Some(publish_not_ready || gates_pass(pod) && !terminating),
        serving: Some(serving),
        terminating: Some(terminating),
    }
}

/// Returns the pod's addresses, the first of each family; empty before it has one.
pub(super) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = pod.status.as_ref() else { return Vec::new() };
    let listed: Vec<&str> = status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    let all = if listed.is_empty() { status.pod_ip.as_deref().into_iter().collect() } else { listed };
    all.into_iter().filter(|address| !address.is_empty()).collect()
}

fn host_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.hostname.as_deref().filter(|name| !name.is_empty())
}

/// Returns the host name under which DNS shall know the pod within a headless Service.
pub(super) fn published_host_name(pod: &Pod, service: &Service) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref()?;
    host_name(pod).filter(|_| subdomain == owners::name(&service.metadata)).map(ToOwned::to_owned)
}

/// Whether a pod belongs among a Service's endpoints at all. Terminating pods stay until they are gone, so that
/// proxies can drain them.
pub(super) fn belongs(pod: &Pod) -> bool {
    if owners::is_terminating(&pod.metadata) && drover_api::mutants::active("E08-drops-what-drains") {
        return false;
    }
    !pods::is_finished(pod) && !addresses(pod).is_empty()
}

/// Refers to a pod by uid.
pub(super) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Builds a pod's endpoint at one address.
pub(super) fn endpoint(pod: &Pod, address: &str, service: &Service, zone: Option<String>) -> Endpoint {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(conditions(pod, publish)),
        hostname: published_host_name(pod, service),
        node_name: pods::node_name(pod).map(ToOwned::to_owned),
        target_ref: Some(target(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// Resolves a Service's ports for a pod: a named target is the container port of that name and protocol. A port that
/// the pod does not have is left out.
pub(super) fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let listed = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    listed
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(resolve(pod, port)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn resolve(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let containers = spec.containers.iter().chain(sidecars);
            let mut open = containers.flat_map(|container| container.ports.iter().flatten());
            let wanted = protocol(port.protocol.as_deref());
            let found = open.find(|candidate| {
                candidate.name.as_ref() == Some(name) && protocol(candidate.protocol.as_deref()) == wanted
            })?;
            Some(found.container_port)
        }
    }
}

fn protocol(name: Option<&str>) -> &str {
    name.unwrap_or("TCP")
}
