//! A cluster of claims and volumes in memory, driven step by step in any order, with users that delete and recreate,
//! passes that read old caches, and a process that may die between any two writes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::ObjectMeta;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::plan::{ClaimAction, Plan, VolumeAction};
use super::super::{claim, edit, names, read, volume};
use super::*;
use crate::objects::owners;

/// What the API holds.
#[derive(Debug, Clone, Default)]
struct World {
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
    nodes: Vec<Arc<Node>>,
    revision: u64,
    /// Which claim's data a volume holds, by their uids: a pod writes as soon as a claim is Bound.
    data: BTreeMap<String, String>,
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    /// A pass takes one step of a claim, from the caches as they are or as they were.
    StepClaim {
        claim: usize,
        stale: bool,
    },
    /// A pass takes one step of a volume.
    StepVolume {
        volume: usize,
        stale: bool,
    },
    /// Caches stop following until the next of these.
    Snapshot,
    DeleteClaim(usize),
    RecreateClaim(usize),
    DeleteVolume(usize),
    LoseNode(usize),
    SelectNode(usize),
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

impl World {
    fn stamp(&mut self, metadata: &mut ObjectMeta) {
        self.revision += 1;
        metadata.resource_version = Some(self.revision.to_string());
    }

    fn put_claim(&mut self, mut claim: PersistentVolumeClaim) {
        self.stamp(&mut claim.metadata);
        let name = owners::name(&claim.metadata).to_owned();
        match is_over(&claim.metadata) {
            true => self.claims.remove(&name),
            false => self.claims.insert(name, Arc::new(claim)),
        };
    }

    fn put_volume(&mut self, mut volume: PersistentVolume) {
        self.stamp(&mut volume.metadata);
        let name = owners::name(&volume.metadata).to_owned();
        match is_over(&volume.metadata) {
            true => self.volumes.remove(&name),
            false => self.volumes.insert(name, Arc::new(volume)),
        };
    }

    fn observe_claim(&self, name: &str) -> Option<claim::Observed> {
        let claim = self.claims.get(name)?.clone();
        let volumes = match read::named_volume(&claim) {
            Some(name) => self.volumes.get(name).cloned().into_iter().collect(),
            None => self.volumes.values().cloned().collect(),
        };
        let class = self.classes.get(read::claim_class(&claim)).cloned();
        Some(claim::Observed { claim, volumes, class, nodes: self.nodes.clone(), users: vec![] })
    }

    /// As the controller observes: what an old cache does not confirm is read fresh.
    fn observe_volume(&self, cache: &Self, name: &str) -> Option<volume::Observed> {
        let volume = cache.volumes.get(name)?.clone();
        let reference = read::claim_ref(&volume).cloned().unwrap_or_default();
        let (uid, claim_name) = (read::ref_uid(&reference).to_owned(), reference.name.unwrap_or_default());
        let is_it = |claim: &&Arc<PersistentVolumeClaim>| owners::uid(&claim.metadata) == uid;
        let names_it =
            |claim: &&Arc<PersistentVolumeClaim>| read::named_volume(claim).is_none_or(|named| named == name);
        let cached = cache.claims.values().filter(is_it).find(names_it);
        let fresh = || self.claims.values().find(is_it).or_else(|| self.claims.get(&claim_name));
        let claim = if uid.is_empty() { None } else { cached.or_else(fresh).cloned() };
        Some(volume::Observed { volume, claim, nodes: cache.nodes.clone() })
    }

    /// Takes one step of a claim; `false` when there is none to take.
    fn step_claim(&mut self, cache: &Self, name: &str) -> Result<bool, TestCaseError> {
        let Some(observed) = cache.observe_claim(name) else { return Ok(false) };
        let plan = claim::plan(&observed);
        let mut turned = observed.clone();
        turned.volumes.reverse();
        turned.nodes.reverse();
        prop_assert_eq!(&plan, &claim::plan(&turned), "the order of the input matters");
        let Plan::Act(action) = plan else { return Ok(false) };
        let current = self.claims.get(name).cloned();
        let alive = current.as_ref().is_some_and(|current| {
            current.metadata.uid == observed.claim.metadata.uid
                && !owners::is_terminating(&current.metadata)
                && read::named_volume(current) == read::named_volume(&observed.claim)
        });
        match &action {
            ClaimAction::TakeVolume { volume, by_controller } => {
                let before = observed.volumes.iter().find(|found| owners::name(&found.metadata) == volume).unwrap();
                if alive && is_current(before, self.volumes.get(volume)) {
                    self.put_volume(edit::taken(before, &observed.claim, *by_controller));
                }
            }
            ClaimAction::Provision { volume } => {
                if alive && !self.volumes.contains_key(owners::name(&volume.metadata)) {
                    let mut made = (**volume).clone();
                    made.metadata.uid = Some(format!("made-{}", self.revision));
                    self.put_volume(made);
                }
            }
            ClaimAction::NameVolume { .. }
            | ClaimAction::AskProvisioner { .. }
            | ClaimAction::SetStatus { .. }
            | ClaimAction::Unprotect => {
                if is_current(&observed.claim, current.as_ref()) {
                    let after = edit::claim(&observed.claim, &action);
                    self.use_volume(&after)?;
                    self.put_claim(after);
                }
            }
        }
        Ok(true)
    }

    /// A pod writes to the volume of a claim that has become Bound, and must not find another claim's data there.
    fn use_volume(&mut self, claim: &PersistentVolumeClaim) -> Result<(), TestCaseError> {
        if read::claim_phase(claim) != "Bound" {
            return Ok(());
        }
        let uid = owners::uid(&claim.metadata).to_owned();
        let volume = self.volumes.get(read::named_volume(claim).unwrap());
        let volume = volume.ok_or_else(|| TestCaseError::fail("a claim became bound to no volume"))?;
        prop_assert_eq!(read::hold(volume, claim), read::Hold::Held, "bound to a volume of another claim");
        let owner = self.data.entry(owners::uid(&volume.metadata).to_owned()).or_insert_with(|| uid.clone());
        prop_assert_eq!(&*owner, &uid, "a claim inherited the data of another");
        Ok(())
    }

    fn step_volume(&mut self, cache: &Self, name: &str) -> Result<bool, TestCaseError> {
        let Some(observed) = self.observe_volume(cache, name) else { return Ok(false) };
        let plan = volume::plan(&observed);
        let mut turned = observed.clone();
        turned.nodes.reverse();
        prop_assert_eq!(&plan, &volume::plan(&turned), "the order of the input matters");
        let Plan::Act(action) = plan else { return Ok(false) };
        if !is_current(&observed.volume, self.volumes.get(name)) {
            return Ok(true);
        }
        let mut after = edit::volume(&observed.volume, &action, now());
        if let VolumeAction::Delete { .. } = action {
            after.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        }
        if matches!(action, VolumeAction::Delete { .. } | VolumeAction::Unprotect { .. } | VolumeAction::Free { .. }) {
            let uid = read::claim_ref(&observed.volume).map(read::ref_uid).unwrap_or_default();
            let holder = self.claims.values().find(|claim| !uid.is_empty() && owners::uid(&claim.metadata) == uid);
            let astray = holder.is_none_or(|claim| {
                matches!(action, VolumeAction::Free { .. })
                    && read::named_volume(claim).is_some_and(|named| named != name)
            });
            prop_assert!(astray, "{action} on {name}, whose claim lives");
        }
        self.put_volume(after);
        Ok(true)
    }

    /// The agents remove the data of volumes that may go.
    fn run_agents(&mut self) -> bool {
        let ready = self.volumes.values().find(|volume| {
            owners::is_terminating(&volume.metadata)
                && !read::has_finalizer(&volume.metadata, names::VOLUME_PROTECTION)
                && read::has_finalizer(&volume.metadata, names::DATA)
                && read::reclaim_policy(volume) == "Delete"
        });
        let Some(ready) = ready.cloned() else { return false };
        let action = VolumeAction::Unprotect { finalizer: names::DATA };
        self.put_volume(edit::volume(&ready, &action, now()));
        true
    }

    /// What must hold at every moment.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut bound = BTreeSet::new();
        for claim in self.claims.values().filter(|claim| read::claim_phase(claim) == "Bound") {
            let name = read::named_volume(claim).unwrap();
            prop_assert!(bound.insert(name), "two claims are bound to {name}");
            prop_assert!(self.volumes.contains_key(name), "the volume {name} of a bound claim is gone");
        }
        Ok(())
    }

    fn happen(&mut self, event: &Event, cache: &mut Option<Self>) -> Result<(), TestCaseError> {
        let cached = |world: &Self, stale: bool| cache.as_ref().filter(|_| stale).unwrap_or(world).clone();
        match event {
            Event::StepClaim { claim, stale } => drop(self.step_claim(&cached(self, *stale), &format!("c{claim}"))?),
            Event::StepVolume { volume, stale } => {
                let name = self.volumes.keys().nth(*volume).cloned().unwrap_or_default();
                self.step_volume(&cached(self, *stale), &name)?;
            }
            Event::Snapshot => *cache = Some(self.clone()),
            Event::DeleteClaim(index) => {
                if let Some(claim) = self.claims.get(&format!("c{index}")) {
                    let mut claim = (**claim).clone();
                    claim.metadata.deletion_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
                    self.put_claim(claim);
                }
            }
            Event::RecreateClaim(index) => {
                let name = format!("c{index}");
                if !self.claims.contains_key(&name) {
                    let uid = format!("new-{}", self.revision);
                    let fresh = a_claim(&json!({"metadata": {"name": name, "uid": uid}}));
                    self.put_claim((*typed::<PersistentVolumeClaim>(fresh)).clone());
                }
            }
            Event::DeleteVolume(index) => {
                if let Some(volume) = self.volumes.values().nth(*index) {
                    let mut volume = (**volume).clone();
                    volume.metadata.deletion_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
                    self.put_volume(volume);
                }
            }
            Event::LoseNode(index) => drop((*index < self.nodes.len()).then(|| self.nodes.remove(*index))),
            Event::SelectNode(index) => {
                if let Some(claim) = self.claims.get(&format!("c{index}")) {
                    let mut claim = (**claim).clone();
                    let node = self.nodes.first().map_or("none", |node| owners::name(&node.metadata)).to_owned();
                    let annotations = claim.metadata.annotations.get_or_insert_default();
                    annotations.insert(names::SELECTED_NODE.to_owned(), node);
                    self.put_claim(claim);
                }
            }
        }
        Ok(())
    }

    /// Lets everybody work until nothing moves.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..100 {
            let mut moved = false;
            for name in self.claims.keys().cloned().collect::<Vec<_>>() {
                moved |= self.step_claim(&self.clone(), &name)?;
                self.check()?;
            }
            for name in self.volumes.keys().cloned().collect::<Vec<_>>() {
                moved |= self.step_volume(&self.clone(), &name)?;
                self.check()?;
            }
            moved |= self.run_agents();
            if !moved {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("never settles"))
    }
}

fn is_over(metadata: &ObjectMeta) -> bool {
    owners::is_terminating(metadata) && metadata.finalizers.iter().flatten().next().is_none()
}

/// The precondition of a write: the object must still be the version that the plan was made from.
fn is_current<K: kube::Resource>(before: &Arc<K>, current: Option<&Arc<K>>) -> bool {
    current.is_some_and(|current| {
        let (now, was) = (current.meta(), before.meta());
        now.resource_version == was.resource_version && now.uid == was.uid
    })
}

fn any_claim(index: usize) -> impl Strategy<Value = Value> {
    let class = prop::sample::select(vec!["local", "waiting", "static", "", "missing", "foreign"]);
    let size = prop::sample::select(vec!["1Gi", "2Gi", "1Mi", "junk"]);
    let node = prop::sample::select(vec![None, Some("n1"), Some("n2"), Some("gone")]);
    let named = prop::sample::select(vec![None, None, None, Some("v0"), Some("v1"), Some("nowhere")]);
    (class, size, node, named, prop::sample::select(vec!["", "c", "c", "c"])).prop_map(
        move |(class, size, node, named, uid)| {
            let uid = if uid.is_empty() { String::new() } else { format!("uid-c{index}") };
            a_claim(&json!({
                "metadata": {"name": format!("c{index}"), "uid": uid,
                    "annotations": {"volume.kubernetes.io/selected-node": node}},
                "spec": {"storageClassName": class, "volumeName": named, "resources": {"requests": {"storage": size}}},
            }))
        },
    )
}

fn any_volume(index: usize) -> impl Strategy<Value = Value> {
    let class = prop::sample::select(vec!["local", "waiting", "static", ""]);
    let size = prop::sample::select(vec!["1Gi", "5Gi", "junk"]);
    let reference = prop::sample::select(vec![
        Value::Null,
        Value::Null,
        json!({}),
        json!({"namespace": "shop", "name": "c0"}),
        json!({"namespace": "shop", "name": "c1", "uid": "uid-c1"}),
        json!({"namespace": "shop", "name": "wrong", "uid": "uid-c1"}),
        json!({"namespace": "shop", "name": "c2", "uid": "long-gone"}),
    ]);
    let phase = prop::sample::select(vec!["Pending", "Available", "Bound", "Released", "Failed", "Junk"]);
    let policy = prop::sample::select(vec!["Delete", "Delete", "Retain", "Recycle", ""]);
    let driver = prop::sample::select(vec![Some("drover.dev/local"), Some("drover.dev/docker"), Some("x.org/y"), None]);
    let marks = (any::<bool>(), any::<bool>(), prop::sample::select(vec![None, Some("n1"), Some("gone")]));
    (class, size, reference, phase, policy, driver, marks).prop_map(
        move |(class, size, reference, phase, policy, driver, (ours, made, node))| {
            let yes = |set: bool, value: &str| if set { json!(value) } else { Value::Null };
            let mut volume = a_volume(
                &format!("v{index}"),
                &json!({
                "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": yes(ours, "yes"),
                    "pv.kubernetes.io/provisioned-by": yes(made, "drover.dev/local")}},
                "spec": {"storageClassName": class, "capacity": {"storage": size}, "claimRef": reference,
                    "persistentVolumeReclaimPolicy": policy},
                "status": {"phase": phase}}),
            );
            match driver {
                Some(driver) => volume["spec"]["csi"]["driver"] = json!(driver),
                None => volume["spec"]["csi"] = Value::Null,
            }
            match node {
                Some(node) => merged(volume, &on_node(node)),
                None => volume,
            }
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let index = 0..4usize;
    prop_oneof![
        6 => (index.clone(), any::<bool>()).prop_map(|(claim, stale)| Event::StepClaim { claim, stale }),
        6 => (0..8usize, any::<bool>()).prop_map(|(volume, stale)| Event::StepVolume { volume, stale }),
        1 => Just(Event::Snapshot),
        1 => index.clone().prop_map(Event::DeleteClaim),
        1 => index.clone().prop_map(Event::RecreateClaim),
        1 => (0..8usize).prop_map(Event::DeleteVolume),
        1 => (0..2usize).prop_map(Event::LoseNode),
        1 => index.prop_map(Event::SelectNode),
    ]
}

fn any_world() -> impl Strategy<Value = World> {
    let claims = (any_claim(0), any_claim(1), any_claim(2), any_claim(3));
    let volumes = (any_volume(0), any_volume(1), any_volume(2), any_volume(3));
    (claims, volumes).prop_map(|(claims, volumes)| {
        let mut world = World {
            revision: 100,
            nodes: ["n1", "n2"].map(|name| typed(a_node(name, true))).to_vec(),
            ..World::default()
        };
        for (name, provisioner, mode) in [
            ("local", "drover.dev/local", "Immediate"),
            ("waiting", "drover.dev/docker", "WaitForFirstConsumer"),
            ("static", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            ("foreign", "x.org/y", "Immediate"),
        ] {
            let class = a_class(provisioner, mode, &json!({"metadata": {"name": name}}));
            world.classes.insert(name.to_owned(), typed(class));
        }
        for claim in [claims.0, claims.1, claims.2, claims.3] {
            world.put_claim((*typed::<PersistentVolumeClaim>(claim)).clone());
        }
        for volume in [volumes.0, volumes.1, volumes.2, volumes.3] {
            let volume = typed::<PersistentVolume>(volume);
            let uid = read::claim_ref(&volume).map(read::ref_uid).filter(|uid| !uid.is_empty());
            if let Some(uid) = uid.filter(|_| matches!(read::volume_phase(&volume), "Bound" | "Released" | "Failed")) {
                world.data.insert(owners::uid(&volume.metadata).to_owned(), uid.to_owned());
            }
            world.put_volume((*volume).clone());
        }
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_no_claim_loses_or_inherits_data_and_all_comes_to_rest(
        mut world in any_world(), events in prop::collection::vec(any_event(), 0..80),
    ) {
        let mut cache = None;
        for event in &events {
            world.happen(event, &mut cache)?;
            world.check()?;
        }
        world.settle()?;
    }
}
