//! S11: where traffic goes; and, once it is quiet, that every table says what the objects say (L1).
//!
//! An address belongs to one pod at a time. A pod that is being stopped is in no table any more: every proxy had to
//! acknowledge that before. Tables are functions of objects: a node that hears the API has the right ones in seconds.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Pod, Service, ServicePort},
    discovery::v1::{Endpoint, EndpointSlice},
};

use crate::{Violation, World, facts};

/// Tables and slices follow their objects within a second; the rest is for a slow machine.
const TABLES_SECS: f64 = 5.0;

pub(crate) fn check(world: &World) -> Vec<Violation> {
    let mut violations = one_owner_an_address(world);
    violations.extend(nobody_stops_in_traffic(world));
    violations
}

fn one_owner_an_address(world: &World) -> Vec<Violation> {
    let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for pod in world.pods.iter().filter(|pod| facts::is_active(pod) && facts::phase(pod) == "Running") {
        for address in facts::addresses(pod) {
            owners.entry(address).or_default().insert(facts::uid(&pod.metadata));
        }
    }
    for host in world.hosts.values() {
        for (uid, address) in &host.sandboxes {
            owners.entry(address).or_default().insert(uid);
        }
    }
    let twice = owners.into_iter().filter(|(address, owners)| owners.len() > 1 && !address.is_empty());
    twice
        .map(|(address, owners)| Violation::new("S11", format!("address {address}"), format!("is of pods {owners:?}")))
        .collect()
}

fn nobody_stops_in_traffic(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    let stopping: BTreeSet<&String> = world.hosts.values().flat_map(|host| &host.stopping).collect();
    let leaving = world.pods.iter().filter(|pod| stopping.iter().any(|uid| *uid == facts::uid(&pod.metadata)));
    for (pod, address) in leaving.flat_map(|pod| facts::addresses(pod).into_iter().map(move |address| (pod, address))) {
        for (node, host) in &world.hosts {
            for (port, targets) in &host.routes {
                // When nobody is ready, those that leave are served to the end: better than nobody.
                let others = targets.iter().any(|target| ip(target) != address);
                if others && targets.iter().any(|target| ip(target) == address) {
                    let message = format!("is being stopped while {node} sends it traffic of {port}");
                    violations.push(Violation::new("S11", facts::subject("Pod", &pod.metadata), message));
                }
            }
        }
    }
    violations
}

fn ip(target: &str) -> &str {
    match target.rsplit_once(':') {
        Some((address, _)) if !address.contains(':') => address,
        Some((address, _)) if address.starts_with('[') => address.trim_matches(['[', ']']),
        _ => target,
    }
}

/// L1: slices equal the ready pods, and every table equals the slices.
pub(crate) fn check_tables(world: &World) -> Vec<Violation> {
    if world.quiet_secs < TABLES_SECS {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for service in world.services.iter().filter(|service| !facts::is_terminating(&service.metadata)) {
        violations.extend(check_slices(world, service));
        for (node, host) in &world.hosts {
            let hears =
                world.nodes.iter().any(|found| facts::name(&found.metadata) == node && facts::is_node_ready(found));
            if host.routes_seen && hears && has_address(service) {
                violations.extend(check_routes(world, service, node, &host.routes));
            }
        }
    }
    for (node, host) in &world.hosts {
        for port in host.routes.keys() {
            let known = world.services.iter().any(|service| port.starts_with(&format!("{}:", full_name(service))));
            if !known {
                let message = format!("sends traffic of {port}, and there is no such Service");
                violations.push(Violation::new("L1", format!("Node/{node}"), message));
            }
        }
    }
    violations
}

fn full_name(service: &Service) -> String {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", facts::name(&service.metadata))
}

/// Whether proxies carry its traffic as this rule knows it: not headless, not for each node on its own.
fn has_address(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let local = spec.internal_traffic_policy.as_deref() == Some("Local");
    spec.cluster_ip.as_deref().is_some_and(|address| address != "None") && !local
}

fn slices_of<'a>(world: &'a World, service: &'a Service) -> impl Iterator<Item = &'a EndpointSlice> {
    world.slices.iter().filter(|slice| {
        let labels = slice.metadata.labels.as_ref();
        let of = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        slice.metadata.namespace == service.metadata.namespace
            && of.is_some_and(|of| of == facts::name(&service.metadata))
    })
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_leaving(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let is = |of: Option<bool>| of == Some(true);
    is(conditions.and_then(|conditions| conditions.serving))
        && is(conditions.and_then(|conditions| conditions.terminating))
}

fn check_slices(world: &World, service: &Service) -> Option<Violation> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.filter(|selector| !selector.is_empty())?;
    let everybody = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let serves = |pod: &&Pod| {
        let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        let ready = facts::is_true(pod, "ContainersReady")
            && gates.into_iter().all(|gate| facts::is_true(pod, &gate.condition_type))
            && !facts::is_terminating(&pod.metadata);
        facts::selects(service, pod) && !facts::is_finished(pod) && (ready || everybody)
    };
    let pods = world.pods.iter().filter(serves);
    let wanted: BTreeSet<&str> = pods.flat_map(|pod| ips(pod)).collect();
    let endpoints = slices_of(world, service).flat_map(|slice| &slice.endpoints);
    let ready: Vec<&str> = endpoints
        .filter(|endpoint| is_ready(endpoint))
        .flat_map(|endpoint| endpoint.addresses.iter().map(String::as_str))
        .collect();
    let listed: BTreeSet<&str> = ready.iter().copied().collect();
    (listed != wanted).then(|| {
        let message = format!("its slices list {listed:?} as ready, its ready pods have {wanted:?}");
        Violation::new("L1", facts::subject("Service", &service.metadata), message)
    })
}

fn ips(pod: &Pod) -> Vec<&str> {
    let status = pod.status.as_ref();
    let listed: Vec<&str> =
        status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|address| address.ip.as_str()).collect();
    let all = if listed.is_empty() {
        status.and_then(|status| status.pod_ip.as_deref()).into_iter().collect()
    } else {
        listed
    };
    all.into_iter().filter(|address| !address.is_empty() && !address.contains(':')).collect()
}

fn check_routes(
    world: &World,
    service: &Service,
    node: &str,
    routes: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
        let name = full_name(service);
        let by_name = format!("{name}:{}", port.name.as_deref().unwrap_or_default());
        let found = routes.get(&by_name).or_else(|| routes.get(&format!("{name}:{}", port.port)));
        let found: BTreeSet<&str> = found.into_iter().flatten().map(|target| ip(target)).collect();
        let wanted = wanted(world, service, port);
        if found != wanted {
            let message = format!("sends traffic of {by_name} to {found:?} and not to {wanted:?}");
            violations.push(Violation::new("L1", format!("Node/{node}"), message));
        }
    }
    violations
}

fn wanted<'a>(world: &'a World, service: &'a Service, port: &ServicePort) -> BTreeSet<&'a str> {
    let serves = |slice: &&EndpointSlice| {
        let mut ports = slice.ports.iter().flatten();
        slice.address_type == "IPv4"
            && ports.any(|found| found.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default())
    };
    let endpoints: Vec<&Endpoint> =
        slices_of(world, service).filter(serves).flat_map(|slice| &slice.endpoints).collect();
    let addresses = |chosen: fn(&Endpoint) -> bool| -> BTreeSet<&'a str> {
        let chosen = endpoints.iter().filter(|endpoint| chosen(endpoint));
        chosen.filter_map(|endpoint| endpoint.addresses.first().map(String::as_str)).collect()
    };
    let ready = addresses(is_ready);
    if ready.is_empty() { addresses(is_leaving) } else { ready }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_tables;

    #[test]
    fn an_address_has_one_owner_and_a_stopping_pod_no_traffic() {
        check_tables(&[
            (
                "two sandboxes",
                &|world| {
                    world.hosts.entry("n2".into()).or_default().sandboxes.insert("u9".into(), "10.1.1.1".into());
                },
                &["S11"],
            ),
            (
                "stopped behind a table",
                &|world| {
                    world.hosts.entry("n1".into()).or_default().stopping.insert("u1".into());
                },
                &["S11", "S11"],
            ),
            (
                "stopped out of traffic",
                &|world| {
                    world.hosts.entry("n1".into()).or_default().stopping.insert("u1".into());
                    for host in world.hosts.values_mut() {
                        host.routes.values_mut().for_each(|targets| targets.retain(|target| target != "10.1.1.1:80"));
                    }
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn once_it_is_quiet_tables_say_what_objects_say() {
        check_tables(&[
            (
                "a dead pod in one table",
                &|world| {
                    world.quiet_secs = 6.0;
                    world
                        .hosts
                        .entry("n1".into())
                        .or_default()
                        .routes
                        .entry("d/web:http".into())
                        .or_default()
                        .insert("10.1.1.9:80".into());
                },
                &["L1"],
            ),
            (
                "a ready pod that no slice lists",
                &|world| {
                    world.quiet_secs = 6.0;
                    world.slices[0].endpoints.pop();
                },
                &["L1", "L1", "L1"],
            ),
            (
                "a Service that is gone",
                &|world| {
                    world.quiet_secs = 6.0;
                    world.hosts.entry("n1".into()).or_default().routes.insert("d/old:http".into(), [].into());
                },
                &["L1"],
            ),
        ]);
    }
}
