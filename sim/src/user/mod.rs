//! What users do to a cluster, as values; drawn at random, carried out through the API like any user's.

mod carry_out;
mod objects;

use crate::{chance::Chance, faults::Phase};

pub use carry_out::User;

/// Names of the Deployments that users play with.
pub const APPS: [&str; 2] = ["web", "job"];

/// One thing a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Apply an app: make it when it is missing.
    Apply {
        /// Index into [`APPS`].
        app: usize,
        /// How many.
        replicas: u32,
    },
    /// Change the number of replicas.
    Scale {
        /// Which app.
        app: usize,
        /// To how many.
        replicas: u32,
    },
    /// Roll out another image.
    Roll {
        /// Which app.
        app: usize,
        /// Index into the node's images.
        image: usize,
    },
    /// Take the last roll back.
    Undo {
        /// Which app.
        app: usize,
    },
    /// Delete an app and make it anew under the same name.
    Recreate {
        /// Which app.
        app: usize,
        /// How many.
        replicas: u32,
    },
    /// Delete one pod.
    DeletePod {
        /// Chooses the pod.
        which: u64,
    },
    /// Take a pod out of its app by its label.
    Relabel {
        /// Chooses the pod.
        which: u64,
    },
    /// Cordon a node and evict its pods.
    Drain {
        /// The node.
        node: usize,
    },
    /// Let a node take pods again.
    Uncordon {
        /// The node.
        node: usize,
    },
    /// Change a node's labels.
    LabelNode {
        /// The node.
        node: usize,
        /// The label's value.
        value: u64,
    },
}

impl Action {
    /// What the cluster is busy with afterwards.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Apply { .. } | Self::Scale { .. } | Self::DeletePod { .. } => Phase::Scale,
            Self::Roll { .. } | Self::Undo { .. } => Phase::Roll,
            Self::Recreate { .. } | Self::Relabel { .. } => Phase::Delete,
            Self::Drain { .. } | Self::Uncordon { .. } | Self::LabelNode { .. } => Phase::Drain,
        }
    }
}

/// Draws one action.
pub fn action(chance: &Chance, nodes: usize, images: usize) -> Action {
    let (app, replicas) = (chance.index(APPS.len()), u32::try_from(chance.below(6)).unwrap_or(1));
    let (which, node) = (chance.below(1 << 16), chance.index(nodes));
    match chance.below(14) {
        0 => Action::Apply { app, replicas },
        1..=3 => Action::Scale { app, replicas },
        4..=6 => Action::Roll { app, image: chance.index(images) },
        7 => Action::Undo { app },
        8 => Action::Recreate { app, replicas },
        9 => Action::DeletePod { which },
        10 => Action::Relabel { which },
        11 => Action::Drain { node },
        12 => Action::Uncordon { node },
        _ => Action::LabelNode { node, value: which % 3 },
    }
}
