//! The nodes, kept up to date by events, and for each shape of pod the nodes that fit, in order of preference.
//!
//! A change of one node costs each shape one new look at that node, and a decision the least element of an ordered
//! set; no decision walks over all nodes. Pods that were decided but not yet seen as bound are held as assumed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::filter::{Refusal, check};
use super::neighbours::term::Labels;
use super::node::{NodeState, Offer};
use super::rank::{Rank, Strategy};
use super::shape::{Placed, Shape};

/// Shapes remembered; beyond it all are forgotten and built anew, which costs one pass over the nodes each.
const CLASSES_MAX: usize = 512;
/// Changes remembered for shapes that look later; a shape further behind is built anew.
const CHANGES_MAX: usize = 65_536;

/// Nodes, what is placed on them, and who fits where.
#[derive(Debug, Default)]
pub struct Index {
    nodes: BTreeMap<String, NodeState>,
    /// The node of every placed pod, by uid.
    places: HashMap<String, String>,
    /// Pods that keep others away, by uid.
    distant: BTreeSet<String>,
    /// The labels of namespaces.
    namespaces: BTreeMap<String, Labels>,
    classes: HashMap<String, Class>,
    /// Names of changed nodes, oldest first; `changes_before` were dropped from the front.
    changes: Vec<String>,
    changes_before: usize,
}

/// The verdict on every node for one shape of pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    shape: Shape,
    strategy: Strategy,
    /// Nodes that fit, best first.
    pub order: BTreeSet<(Rank, String)>,
    /// The rank of each node that fits.
    pub ranks: BTreeMap<String, Rank>,
    /// Why each other node does not fit.
    pub refusals: BTreeMap<String, Refusal>,
    /// Changes of the index that this class has seen.
    seen: usize,
}

impl Index {
    /// Sets what a node offers.
    pub fn set_node(&mut self, name: &str, offer: Offer) {
        let node = self.nodes.entry(name.to_owned()).or_default();
        if node.offer.as_ref() != Some(&offer) {
            node.offer = Some(offer);
            self.touch(name);
        }
    }

    /// Forgets a node's offer; pods that still name it keep it in the index without one.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.offer = None;
            if node.pods.is_empty() {
                self.nodes.remove(name);
            }
            self.touch(name);
        }
    }

    /// Sets the labels of a namespace; `None` when it is gone. Returns whether that changes anything.
    pub fn set_namespace(&mut self, name: &str, labels: Option<&Labels>) -> bool {
        let before = match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        before.as_ref() != labels
    }

    /// Returns the labels of all namespaces.
    pub fn namespaces(&self) -> &BTreeMap<String, Labels> {
        &self.namespaces
    }

    /// Returns the placed pods that keep others away, with their nodes.
    pub fn keeping_distance(&self) -> impl Iterator<Item = (&NodeState, &Placed)> {
        self.distant.iter().filter_map(|uid| {
            let node = self.nodes.get(self.places.get(uid)?)?;
            Some((node, node.pods.get(uid)?))
        })
    }

    /// Notes that a pod is placed, bound or assumed. Saying it again changes nothing, and is answered with `false`.
    pub fn set_pod(&mut self, uid: &str, node: &str, pod: Placed) -> bool {
        if self.places.get(uid).is_some_and(|place| place != node) {
            self.remove_pod(uid);
        }
        let state = self.nodes.entry(node.to_owned()).or_default();
        if state.pods.get(uid) == Some(&pod) {
            return false;
        }
        match pod.apart.is_empty() {
            true => self.distant.remove(uid),
            false => self.distant.insert(uid.to_owned()),
        };
        state.put(uid, pod);
        self.places.insert(uid.to_owned(), node.to_owned());
        self.touch(node);
        true
    }

    /// Notes that a pod takes nothing any more; returns whether it took something.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(name) = self.places.remove(uid) else { return false };
        self.distant.remove(uid);
        if let Some(node) = self.nodes.get_mut(&name) {
            node.take(uid);
            if node.offer.is_none() && node.pods.is_empty() {
                self.nodes.remove(&name);
            }
        }
        if !drover_api::mutants::active("C14-freed-room-unseen") {
            self.touch(&name);
        }
        true
    }

    /// Returns the node that a pod is placed on.
    pub fn place_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(String::as_str)
    }

    /// Returns all nodes by name.
    pub fn nodes(&self) -> &BTreeMap<String, NodeState> {
        &self.nodes
    }

    /// Returns the verdicts for a shape, up to date.
    pub fn class(&mut self, shape: &Shape, strategy: Strategy) -> &Class {
        let key = format!("{strategy:?} {}", shape.class());
        if self.classes.len() >= CLASSES_MAX && !self.classes.contains_key(&key) {
            self.classes.clear();
        }
        let changes_end = self.changes_before + self.changes.len();
        let class = self.classes.entry(key).or_insert_with(|| Class::build(shape, strategy, &self.nodes, changes_end));
        if class.seen < self.changes_before {
            *class = Class::build(shape, strategy, &self.nodes, changes_end);
        }
        let changed: BTreeSet<&String> = self.changes[class.seen - self.changes_before..].iter().collect();
        for name in changed {
            class.look_at(name, self.nodes.get(name));
        }
        class.seen = changes_end;
        class
    }

    fn touch(&mut self, name: &str) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes_before += self.changes.len();
            self.changes.clear();
        }
        self.changes.push(name.to_owned());
    }
}

impl Class {
    /// Looks at every node.
    fn build(shape: &Shape, strategy: Strategy, nodes: &BTreeMap<String, NodeState>, seen: usize) -> Self {
        let mut class = Self {
            shape: shape.clone(),
            strategy,
            order: BTreeSet::new(),
            ranks: BTreeMap::new(),
            refusals: BTreeMap::new(),
            seen,
        };
        for (name, node) in nodes {
            class.look_at(name, Some(node));
        }
        class
    }

    fn look_at(&mut self, name: &str, node: Option<&NodeState>) {
        if let Some(rank) = self.ranks.remove(name) {
            self.order.remove(&(rank, name.to_owned()));
        }
        self.refusals.remove(name);
        let Some(node) = node else { return };
        match check(&self.shape, &[], name, node) {
            Ok(()) => {
                let rank = Rank::of(self.strategy, &self.shape, name, node);
                self.order.insert((rank.clone(), name.to_owned()));
                self.ranks.insert(name.to_owned(), rank);
            }
            Err(refusal) => {
                self.refusals.insert(name.to_owned(), refusal);
            }
        }
    }
}
