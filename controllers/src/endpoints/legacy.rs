//! The v1 Endpoints object of a Service: the same pods in the older form, at most 1,000 addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use kube::api::ObjectMeta;
use serde::Serialize;

use super::build;
use crate::objects::{owners, pods};
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, ObjectKey, Result};

/// Addresses in one object, as in Kubernetes; slices have no such limit.
const ADDRESSES_MAX: usize = 1000;
/// Tells clients that addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Marks the object as made from a selector.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Action {
    /// Nothing to do.
    None,
    /// Create the object.
    Create(Box<Endpoints>),
    /// Make the object equal to this one.
    Update(Box<Endpoints>),
    /// Delete the object of a Service that is gone.
    Delete {
        /// Its uid.
        uid: String,
    },
}

type PortKey = (String, i32, String, Option<String>);

/// Decides the Endpoints of a Service; `None` for one that is gone.
pub(super) fn plan(service: Option<&Service>, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Action {
    let Some(service) = service else {
        let ours =
            existing.filter(|existing| existing.metadata.labels.iter().flatten().any(|(name, _)| name == MANAGED_BY));
        return ours.map_or(Action::None, |ours| Action::Delete { uid: owners::uid(&ours.metadata).to_owned() });
    };
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.selector.as_ref()).is_none_or(BTreeMap::is_empty) {
        return Action::None;
    }
    let (subsets, over) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    let mut after = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    after.metadata.labels = Some(labels);
    let had = after.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(OVER_CAPACITY));
    if over {
        let annotations = after.metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if had && let Some(annotations) = after.metadata.annotations.as_mut() {
        annotations.remove(OVER_CAPACITY);
    }
    after.subsets = (!subsets.is_empty()).then_some(subsets);
    match existing {
        None => Action::Create(Box::new(after)),
        Some(existing) if *existing == after => Action::None,
        Some(_) => Action::Update(Box::new(after)),
    }
}

/// Groups addresses by the ports they have.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let mut groups: BTreeMap<Vec<PortKey>, EndpointSubset> = BTreeMap::new();
    let mut pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).filter(|pod| build::belongs(pod)).collect();
    // The older form knows no terminating addresses.
    pods.retain(|pod| publish || !owners::is_terminating(&pod.metadata));
    pods.sort_by_key(|pod| owners::name(&pod.metadata));
    let over = pods.len() > ADDRESSES_MAX;
    for pod in pods.into_iter().take(ADDRESSES_MAX) {
        let Some(address) = build::addresses(pod).first().copied() else { continue };
        let ports: Vec<EndpointPort> = build::ports(pod, service)
            .into_iter()
            .filter_map(|port| {
                let name = port.name.filter(|name| !name.is_empty());
                Some(EndpointPort { name, port: port.port?, protocol: port.protocol, app_protocol: port.app_protocol })
            })
            .collect();
        let key = ports.iter().map(|port| {
            let protocol = port.protocol.clone().unwrap_or_default();
            (port.name.clone().unwrap_or_default(), port.port, protocol, port.app_protocol.clone())
        });
        let subset = groups.entry(key.collect()).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then(|| ports.clone()),
            ..EndpointSubset::default()
        });
        let ready = build::conditions(pod, publish).ready == Some(true);
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(EndpointAddress {
            ip: address.to_owned(),
            hostname: build::published_host_name(pod, service),
            node_name: pods::node_name(pod).map(ToOwned::to_owned),
            target_ref: Some(build::target(pod)),
        });
    }
    (groups.into_values().collect(), over)
}

/// Carries out the write.
pub(super) async fn apply(
    cluster: &Cluster,
    key: &ObjectKey,
    existing: Option<&Endpoints>,
    action: Action,
) -> Result<()> {
    let result = match (action, existing) {
        (Action::None, _) | (Action::Update(_), None) => Ok(()),
        (Action::Create(endpoints), _) => cluster.endpoints.create(&endpoints).await.map(drop),
        (Action::Update(endpoints), Some(before)) => cluster.endpoints.update(before, &endpoints, None).await.map(drop),
        (Action::Delete { uid }, _) => cluster.endpoints.delete(key, &DeleteOptions::uid(uid)).await,
    };
    match result {
        Err(error) if error.is_namespace_terminating() => Ok(()),
        other => other,
    }
}
