//! Decides which slices a Service has and what is in them. Pure.
//!
//! A slice is changed as little as possible: an endpoint stays in the slice that has it, new ones fill the holes, and
//! only what is left over makes a new slice. So one pod's change is one small write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{MANAGED_BY, MANAGER, SERVICE_NAME, build};
use crate::objects::owners;

/// Endpoints in one slice, as in Kubernetes.
pub(super) const SLICE_MAX: usize = 100;
/// Tells clients that a Service has no address of its own.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// No vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Action {
    /// Create a slice.
    Create {
        /// The whole slice.
        slice: Box<EndpointSlice>,
    },
    /// Make a slice's endpoints, ports and labels equal to this one's.
    Update {
        /// The slice as it shall be; name and uid say which.
        slice: Box<EndpointSlice>,
    },
    /// Delete a slice that holds nothing any more.
    Delete {
        /// The slice.
        slice: String,
        /// Its uid.
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { slice } => {
                write!(formatter, "create {} with {}", owners::name(&slice.metadata), slice.endpoints.len())
            }
            Self::Update { slice } => {
                write!(formatter, "update {} to {}", owners::name(&slice.metadata), slice.endpoints.len())
            }
            Self::Delete { slice, .. } => write!(formatter, "delete {slice}"),
        }
    }
}

/// What slices of one sort have in common.
type Group = (String, Vec<PortKey>);
type PortKey = (String, Option<i32>, String, Option<String>);

/// Decides the slices of a Service; `None` for one that is gone. `zone` tells a node's zone.
pub fn plan(
    service: Option<&Service>,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone: &dyn Fn(&str) -> Option<String>,
) -> Vec<Action> {
    let mut mine: Vec<&EndpointSlice> = slices.iter().map(|slice| &**slice).filter(|slice| is_mine(slice)).collect();
    mine.sort_by_key(|slice| owners::name(&slice.metadata));
    mine.retain(|slice| !owners::is_terminating(&slice.metadata));
    // A Service without a selector keeps whatever others wrote for it; ours are from when it had one.
    let Some(service) = service.filter(|service| has_selector(service) && !owners::is_terminating(&service.metadata))
    else {
        return mine.into_iter().map(delete).collect();
    };
    let mut wanted = wanted(service, pods, zone);
    let mut taken: BTreeSet<String> = slices.iter().map(|slice| owners::name(&slice.metadata).to_owned()).collect();
    let mut actions = Vec::new();
    let (mut grouped, mut left_over): (BTreeMap<Group, Vec<&EndpointSlice>>, Vec<&EndpointSlice>) = Default::default();
    for slice in mine {
        let group = (slice.address_type.clone(), port_keys(slice.ports.as_deref().unwrap_or_default()));
        if wanted.contains_key(&group) && owners::is_controlled_by(&slice.metadata, owners::uid(&service.metadata)) {
            grouped.entry(group).or_default().push(slice);
        } else {
            left_over.push(slice);
        }
    }
    for (group, (ports, endpoints)) in &mut wanted {
        let existing = grouped.remove(group).unwrap_or_default();
        let fill = Fill { service, family: &group.0, ports };
        fill.plan(std::mem::take(endpoints), &existing, &mut taken, &mut actions);
    }
    actions.extend(left_over.into_iter().map(delete));
    // What adds endpoints goes before what takes slices away, so that no proxy sees a gap.
    actions.sort_by_key(|action| matches!(action, Action::Delete { .. }));
    actions
}

fn is_mine(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.iter().flatten().any(|(name, value)| name == MANAGED_BY && value == MANAGER)
}

fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    !external && spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty())
}

fn delete(slice: &EndpointSlice) -> Action {
    Action::Delete { slice: owners::name(&slice.metadata).to_owned(), uid: owners::uid(&slice.metadata).to_owned() }
}

/// Groups the endpoints there should be by address family and resolved ports.
fn wanted(
    service: &Service,
    pods: &[Arc<Pod>],
    zone: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)> {
    let mut groups: BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).filter(|list| !list.is_empty());
    let families = families.unwrap_or_else(|| vec!["IPv4".to_owned()]);
    let mut pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).filter(|pod| build::belongs(pod)).collect();
    pods.sort_by_key(|pod| owners::name(&pod.metadata));
    for pod in pods {
        let ports = build::ports(pod, service);
        let zone = crate::objects::pods::node_name(pod).and_then(zone);
        for address in build::addresses(pod) {
            let family = if address.contains(':') { "IPv6" } else { "IPv4" };
            if families.iter().any(|wanted| wanted == family) {
                let group = (family.to_owned(), port_keys(&ports));
                let entry = groups.entry(group).or_insert_with(|| (ports.clone(), Vec::new()));
                entry.1.push(build::endpoint(pod, address, service, zone.clone()));
            }
        }
    }
    if groups.is_empty() {
        // An empty slice tells clients and proxies that the Service is known and has nobody behind it.
        groups.insert((families[0].clone(), Vec::new()), (Vec::new(), Vec::new()));
    }
    groups
}

fn port_keys(ports: &[EndpointPort]) -> Vec<PortKey> {
    let key = |port: &EndpointPort| {
        let name = port.name.clone().unwrap_or_default();
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        (name, port.port, protocol, port.app_protocol.clone())
    };
    let mut keys: Vec<PortKey> = ports.iter().map(key).collect();
    keys.sort();
    keys
}

/// Puts the endpoints of one group into slices.
struct Fill<'a> {
    service: &'a Service,
    family: &'a str,
    ports: &'a [EndpointPort],
}

impl Fill<'_> {
    fn plan(
        &self,
        endpoints: Vec<Endpoint>,
        existing: &[&EndpointSlice],
        taken: &mut BTreeSet<String>,
        actions: &mut Vec<Action>,
    ) {
        let mut by_target: HashMap<(String, String), Endpoint> =
            endpoints.iter().map(|endpoint| (identity(endpoint), endpoint.clone())).collect();
        let mut contents: Vec<Vec<Endpoint>> = Vec::new();
        for slice in existing {
            let kept = slice.endpoints.iter().filter_map(|endpoint| by_target.remove(&identity(endpoint)));
            contents.push(kept.take(SLICE_MAX).collect());
        }
        let mut new = endpoints.into_iter().filter(|endpoint| by_target.contains_key(&identity(endpoint))).peekable();
        for content in &mut contents {
            while content.len() < SLICE_MAX && new.peek().is_some() {
                content.extend(new.next());
            }
        }
        let all_empty = contents.iter().all(Vec::is_empty);
        for (index, (slice, content)) in existing.iter().zip(contents).enumerate() {
            let keep_one = index == 0 && all_empty && new.peek().is_none();
            self.plan_existing(slice, content, keep_one, actions);
        }
        let none_exist = existing.is_empty();
        let mut first = true;
        while new.peek().is_some() || first && none_exist {
            first = false;
            let content = new.by_ref().take(SLICE_MAX).collect();
            let slice = Box::new(self.build(&self.free_name(taken), content));
            actions.push(Action::Create { slice });
        }
    }

    fn plan_existing(&self, slice: &EndpointSlice, content: Vec<Endpoint>, keep: bool, actions: &mut Vec<Action>) {
        if content.is_empty() && !keep {
            actions.push(delete(slice));
            return;
        }
        let mut after = slice.clone();
        let built = self.build(owners::name(&slice.metadata), content);
        after.metadata.labels = built.metadata.labels;
        after.metadata.annotations.get_or_insert_default().extend(built.metadata.annotations.into_iter().flatten());
        if after.metadata.annotations == slice.metadata.annotations.clone().or_else(|| Some(BTreeMap::new())) {
            after.metadata.annotations.clone_from(&slice.metadata.annotations);
        }
        after.endpoints = built.endpoints;
        if after != *slice || drover_api::mutants::active("C08-writes-what-is-there") {
            actions.push(Action::Update { slice: Box::new(after) });
        }
    }

    /// Names are a function of the Service's uid, the family and a number: a create sent twice meets itself.
    fn free_name(&self, taken: &mut BTreeSet<String>) -> String {
        let uid = owners::uid(&self.service.metadata);
        let stem: String = owners::name(&self.service.metadata).chars().take(57).collect();
        let name = |number: u32| {
            let digest = Sha256::digest(format!("{uid}/{}/{number}", self.family));
            let letters = digest.iter().take(5).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
            format!("{stem}-{}", letters.collect::<String>())
        };
        let mut number = 0;
        loop {
            let candidate = name(number);
            if taken.insert(candidate.clone()) {
                return candidate;
            }
            number += 1;
        }
    }

    fn build(&self, name: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
        let mut labels = self.service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        labels.insert(SERVICE_NAME.to_owned(), owners::name(&self.service.metadata).to_owned());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        if self.service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: self.service.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![owners::controller_reference(self.service)]),
                ..ObjectMeta::default()
            },
            address_type: self.family.to_owned(),
            ports: Some(self.ports.to_vec()),
            endpoints,
        }
    }
}

fn identity(endpoint: &Endpoint) -> (String, String) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
    (uid, endpoint.addresses.first().cloned().unwrap_or_default())
}
