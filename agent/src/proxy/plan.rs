//! The table as it follows its objects, one Service at a time: what a change costs does not grow with their number. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use drover_routing::endpoints::SliceIndex;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use super::{
    base,
    conntrack::FlowTarget,
    desired::{ProxyConfig, ProxyInput, add_host_ports, add_service},
    tables::{Observed, Tables},
};

/// Namespace and name of a Service.
type Key = (String, String);

/// Who asks for a part of the table, in the order in which they get what several ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Base,
    Service(Key),
    HostPorts,
}

/// What the table must hold, always equal to [`super::desired`] of the last input.
#[derive(Debug, Default)]
pub(super) struct Plan {
    input: ProxyInput,
    services: BTreeMap<Key, Arc<Service>>,
    slices: BTreeMap<Key, Vec<Arc<EndpointSlice>>>,
    parts: BTreeMap<Owner, Tables>,
    claims: BTreeMap<(&'static str, String), BTreeMap<Owner, String>>,
    chains: Users<String>,
    affinity: Users<String>,
    targets: Users<FlowTarget>,
    tables: Tables,
}

/// What may have to be different in the kernel.
#[derive(Debug, Default)]
pub(super) struct Touched {
    chains: BTreeSet<String>,
    affinity: BTreeSet<String>,
    elements: BTreeSet<(&'static str, String)>,
    targets: BTreeSet<FlowTarget>,
}

impl Plan {
    /// Everything that the table must hold.
    pub(super) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Takes an input in, and adds to `touched` what it changes.
    pub(super) fn update(&mut self, input: ProxyInput, config: &ProxyConfig, touched: &mut Touched) {
        let mut dirty: BTreeSet<Owner> = BTreeSet::new();
        if self.parts.is_empty() {
            dirty.extend([Owner::Base, Owner::HostPorts]);
        }
        let (gone, new) = changed(&self.input.services, &input.services);
        for key in gone.iter().filter_map(|service| service_key(service)) {
            self.services.remove(&key);
            dirty.insert(Owner::Service(key));
        }
        for service in new {
            let Some(key) = service_key(&service) else { continue };
            self.services.insert(key.clone(), service);
            dirty.insert(Owner::Service(key));
        }
        let (gone, new) = changed(&self.input.slices, &input.slices);
        for slice in gone {
            let Some(key) = slice_key(&slice) else { continue };
            if let Some(slices) = self.slices.get_mut(&key) {
                slices.retain(|known| !Arc::ptr_eq(known, &slice));
                if slices.is_empty() {
                    self.slices.remove(&key);
                }
            }
            dirty.insert(Owner::Service(key));
        }
        for slice in new {
            let Some(key) = slice_key(&slice) else { continue };
            self.slices.entry(key.clone()).or_default().push(slice);
            dirty.insert(Owner::Service(key));
        }
        if self.input.doubted != input.doubted {
            dirty.extend(self.services.keys().cloned().map(Owner::Service));
        }
        if self.input.host_ports != input.host_ports {
            dirty.insert(Owner::HostPorts);
        }
        self.input = input;
        for owner in dirty {
            let part = self.part_of(&owner, config);
            self.replace(owner, part, touched);
        }
    }

    /// What of the kernel's table and of ours has to do with `touched`: the change between the two is the change between
    /// the whole tables.
    pub(super) fn restricted(&self, touched: &Touched, kernel: &Observed) -> (Observed, Tables) {
        let mut current = Observed { exists: kernel.exists, ..Observed::default() };
        let mut wanted = Tables::default();
        let base = self.parts.get(&Owner::Base).into_iter().flat_map(|part| part.chains.keys());
        for name in base.chain(&touched.chains) {
            current.chains.extend(kernel.chains.get_key_value(name).map(|(name, rules)| (name.clone(), *rules)));
            wanted
                .chains
                .extend(self.tables.chains.get_key_value(name).map(|(name, chain)| (name.clone(), chain.clone())));
        }
        for name in &touched.affinity {
            current.affinity.extend(kernel.affinity.get(name).cloned());
            let set = self.tables.affinity.get_key_value(name);
            wanted.affinity.extend(set.map(|(name, definition)| (name.clone(), definition.clone())));
        }
        current.elements = kernel.elements.keys().map(|map| (map.clone(), BTreeMap::new())).collect();
        for (map, key) in &touched.elements {
            if let Some(value) = kernel.elements.get(*map).and_then(|elements| elements.get(key)) {
                current.elements.entry((*map).to_owned()).or_default().insert(key.clone(), value.clone());
            }
            if let Some(value) = self.tables.elements.get(map).and_then(|elements| elements.get(key)) {
                wanted.elements.entry(map).or_default().insert(key.clone(), value.clone());
            }
        }
        (current, wanted)
    }

    /// Endpoints that nothing leads to any more.
    pub(super) fn forgotten(&self, touched: &Touched) -> BTreeSet<FlowTarget> {
        touched.targets.difference(&self.tables.targets).copied().collect()
    }

    fn part_of(&self, owner: &Owner, config: &ProxyConfig) -> Tables {
        let mut part = Tables::default();
        match owner {
            Owner::Base => base::add_chains(&mut part, config),
            Owner::HostPorts => add_host_ports(&mut part, &self.input.host_ports),
            Owner::Service(key) => {
                let slices = self.slices.get(key).map_or(&[] as &[_], Vec::as_slice);
                if let Some(service) = self.services.get(key) {
                    add_service(&mut part, service, &SliceIndex::new(slices, &self.input.doubted), config);
                }
            }
        }
        part
    }

    /// Puts what an owner asks for in the place of what it asked for before.
    fn replace(&mut self, owner: Owner, part: Tables, touched: &mut Touched) {
        let before = self.parts.remove(&owner).unwrap_or_default();
        for (name, chain) in &part.chains {
            self.chains.add(name);
            self.tables.chains.insert(name.clone(), chain.clone());
        }
        for (name, definition) in &part.affinity {
            self.affinity.add(name);
            self.tables.affinity.insert(name.clone(), definition.clone());
        }
        for target in &part.targets {
            self.targets.add(target);
            self.tables.targets.insert(*target);
        }
        for name in before.chains.keys().filter(|name| self.chains.remove(name)) {
            self.tables.chains.remove(name);
        }
        for name in before.affinity.keys().filter(|name| self.affinity.remove(name)) {
            self.tables.affinity.remove(name);
        }
        for target in before.targets.iter().filter(|target| self.targets.remove(target)) {
            self.tables.targets.remove(target);
        }
        for (map, key, _) in elements(&before) {
            if let Some(claims) = self.claims.get_mut(&(map, key.clone())) {
                claims.remove(&owner);
            }
        }
        for (map, key, value) in elements(&part) {
            self.claims.entry((map, key.clone())).or_default().insert(owner.clone(), value.clone());
        }
        for (map, key, _) in elements(&before).chain(elements(&part)) {
            self.settle(map, key);
            touched.elements.insert((map, key.clone()));
        }
        touched.chains.extend(before.chains.keys().chain(part.chains.keys()).cloned());
        touched.affinity.extend(before.affinity.keys().chain(part.affinity.keys()).cloned());
        touched.targets.extend(before.targets.iter().chain(&part.targets).copied());
        let is_gone = matches!(&owner, Owner::Service(key) if !self.services.contains_key(key));
        if !is_gone {
            self.parts.insert(owner, part);
        }
    }

    /// The first who asks for an element gets it.
    fn settle(&mut self, map: &'static str, key: &str) {
        let claim = (map, key.to_owned());
        let winner = self.claims.get(&claim).and_then(|claims| claims.values().next().cloned());
        let elements = self.tables.elements.entry(map).or_default();
        if let Some(value) = winner {
            elements.insert(key.to_owned(), value);
            return;
        }
        self.claims.remove(&claim);
        elements.remove(key);
        if elements.is_empty() {
            self.tables.elements.remove(map);
        }
    }
}

/// How many ask for each thing.
#[derive(Debug)]
struct Users<T>(BTreeMap<T, usize>);

impl<T> Default for Users<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Users<T> {
    fn add(&mut self, thing: &T) {
        *self.0.entry(thing.clone()).or_default() += 1;
    }

    /// Returns whether nobody asks for it any more.
    fn remove(&mut self, thing: &T) -> bool {
        let Some(count) = self.0.get_mut(thing) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.0.remove(thing);
        }
        last
    }
}

/// Each element with its map, key and value.
fn elements(tables: &Tables) -> impl Iterator<Item = (&'static str, &String, &String)> {
    tables.elements.iter().flat_map(|(map, elements)| elements.iter().map(move |(key, value)| (*map, key, value)))
}

/// What is in one list only, of those before and of those after. Lists keep their order, so that most changes are found
/// by comparing pointers from both ends.
fn changed<T>(before: &[Arc<T>], after: &[Arc<T>]) -> (Vec<Arc<T>>, Vec<Arc<T>>) {
    let same = |(one, other): &(&Arc<T>, &Arc<T>)| Arc::ptr_eq(one, other);
    let head = before.iter().zip(after).take_while(same).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
    let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
    let only = |these: &[Arc<T>], others: &[Arc<T>]| {
        let others: HashSet<*const T> = others.iter().map(Arc::as_ptr).collect();
        these.iter().filter(|object| !others.contains(&Arc::as_ptr(object))).cloned().collect()
    };
    (only(before, after), only(after, before))
}

fn service_key(service: &Service) -> Option<Key> {
    Some((service.metadata.namespace.clone()?, service.metadata.name.clone()?))
}

fn slice_key(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some((slice.metadata.namespace.clone()?, service.clone()))
}
