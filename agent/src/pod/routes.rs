//! When Services may send a pod traffic and when they have stopped: pure decisions over Services, EndpointSlices and
//! the revision that every live proxy has acknowledged.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::observed::Routes;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The acknowledged revision where nobody publishes one: no pod waits to join.
pub const NOBODY_ACKNOWLEDGES: u64 = u64::MAX;

/// Whether every proxy knows that the pod takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// No Service selects the pod: there is nobody to tell.
    NotSelected,
    /// Some Service's slices, or some proxy, do not have the pod as ready yet.
    Waiting,
    /// All do.
    Acknowledged,
}

/// Decides whether the pod has joined all its Services.
pub fn decide_join(pod: &Pod, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], acknowledged: u64) -> Join {
    let selecting = selecting_services(pod, services);
    if selecting.is_empty() || acknowledged == NOBODY_ACKNOWLEDGES {
        return Join::NotSelected;
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let joined = |name: &&str| {
        slices_of(pod, slices, name).any(|slice| {
            let known = revision(slice) <= acknowledged || drover_api::mutants::active("E03-ready-before-acknowledged");
            known && endpoints_of(slice, uid).any(is_ready)
        })
    };
    if selecting.iter().all(joined) { Join::Acknowledged } else { Join::Waiting }
}

/// Decides where the withdrawal of a deleted pod from its Services is.
pub fn decide_routes(pod: &Pod, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], acknowledged: u64) -> Routes {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let selecting = selecting_services(pod, services);
    let mut listed = false;
    let mut withdrawn = true;
    for name in &selecting {
        for slice in slices_of(pod, slices, name) {
            for endpoint in endpoints_of(slice, uid) {
                listed = true;
                withdrawn &= is_terminating(endpoint) && revision(slice) <= acknowledged;
            }
        }
    }
    // Slices of Services that no longer select the pod, or are gone themselves.
    let stale = slices.iter().filter(|slice| slice.metadata.namespace == pod.metadata.namespace).any(|slice| {
        let name = service_name(slice);
        !selecting.contains(name) && endpoints_of(slice, uid).any(is_ready)
    });
    match (listed || stale, withdrawn && !stale) {
        (false, _) => Routes::None,
        (true, true) => Routes::Withdrawn,
        (true, false) => Routes::Waiting,
    }
}

/// The ports on which the pod serves, by the slices that list it.
pub fn serving_ports(pod: &Pod, slices: &[Arc<EndpointSlice>]) -> BTreeSet<u16> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let listing = slices.iter().filter(|slice| endpoints_of(slice, uid).next().is_some());
    let ports = listing.flat_map(|slice| slice.ports.iter().flatten());
    ports.filter_map(|port| port.port).filter_map(|port| u16::try_from(port).ok()).collect()
}

fn selecting_services<'a>(pod: &Pod, services: &'a [Arc<Service>]) -> BTreeSet<&'a str> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let selects = |service: &&Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.metadata.namespace == pod.metadata.namespace
            && service.metadata.deletion_timestamp.is_none()
            && selector.is_some_and(|selector| {
                !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            })
    };
    services.iter().filter(selects).filter_map(|service| service.metadata.name.as_deref()).collect()
}

fn slices_of<'a>(
    pod: &'a Pod,
    slices: &'a [Arc<EndpointSlice>],
    service: &'a str,
) -> impl Iterator<Item = &'a EndpointSlice> {
    let same = move |slice: &&Arc<EndpointSlice>| {
        slice.metadata.namespace == pod.metadata.namespace && service_name(slice) == service
    };
    slices.iter().filter(same).map(AsRef::as_ref)
}

fn service_name(slice: &EndpointSlice) -> &str {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).map_or("", String::as_str)
}

fn endpoints_of<'a>(slice: &'a EndpointSlice, uid: &'a str) -> impl Iterator<Item = &'a Endpoint> {
    slice.endpoints.iter().filter(move |endpoint| {
        endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).is_some_and(|of| of == uid)
    })
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_terminating(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating).unwrap_or(false)
}

fn revision(slice: &EndpointSlice) -> u64 {
    slice.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(
            json!({"metadata": {"namespace": "d", "name": "p", "uid": "u1", "labels": {"app": "web"}}}),
        )
        .expect("pod")
    }

    fn service(selector: &serde_json::Value) -> Arc<Service> {
        let object = json!({"metadata": {"namespace": "d", "name": "web"}, "spec": {"selector": selector}});
        Arc::new(serde_json::from_value(object).expect("service"))
    }

    fn slice(revision: u64, ready: bool, terminating: bool, uid: &str) -> Arc<EndpointSlice> {
        let object = json!({
            "metadata": {"namespace": "d", "name": "web-1", "resourceVersion": revision.to_string(),
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080}],
            "endpoints": [{"addresses": ["10.128.0.2"], "targetRef": {"uid": uid},
                "conditions": {"ready": ready, "terminating": terminating}}],
        });
        Arc::new(serde_json::from_value(object).expect("slice"))
    }

    #[test]
    fn a_pod_joins_once_every_proxy_has_its_slice() {
        let web = [service(&json!({"app": "web"}))];
        let table = [
            (slice(7, true, false, "u1"), 7, Join::Acknowledged),
            (slice(7, true, false, "u1"), 6, Join::Waiting),
            (slice(7, false, false, "u1"), 9, Join::Waiting),
            (slice(7, true, false, "u2"), 9, Join::Waiting),
        ];
        for (slice, acknowledged, expected) in table {
            assert_eq!(decide_join(&pod(), &web, &[slice], acknowledged), expected);
        }
        assert_eq!(decide_join(&pod(), &web, &[], 9), Join::Waiting, "no slice yet");
        assert_eq!(decide_join(&pod(), &web, &[], NOBODY_ACKNOWLEDGES), Join::NotSelected);
        assert_eq!(decide_join(&pod(), &[service(&json!({"app": "x"}))], &[], 0), Join::NotSelected);
        assert_eq!(decide_join(&pod(), &[service(&json!({}))], &[], 0), Join::NotSelected);
    }

    #[test]
    fn a_pod_has_left_once_every_proxy_knows_that_it_terminates() {
        let web = [service(&json!({"app": "web"}))];
        let table = [
            (slice(7, false, true, "u1"), 7, Routes::Withdrawn),
            (slice(7, false, true, "u1"), 6, Routes::Waiting),
            (slice(7, true, false, "u1"), 9, Routes::Waiting),
            (slice(7, true, false, "u2"), 9, Routes::None),
        ];
        for (slice, acknowledged, expected) in table {
            assert_eq!(decide_routes(&pod(), &web, &[slice], acknowledged), expected);
        }
        let gone: [Arc<Service>; 0] = [];
        assert_eq!(decide_routes(&pod(), &gone, &[slice(7, true, false, "u1")], 9), Routes::Waiting, "stale slice");
        assert_eq!(serving_ports(&pod(), &[slice(7, true, false, "u1")]), BTreeSet::from([8080]));
    }
}
