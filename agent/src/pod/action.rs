//! What the planner may ask for.

use serde::Serialize;

/// One step of a pod's life. Each is begun once; its outcome becomes an observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Make the name space.
    EnsureNetwork,
    /// Make the volumes.
    PrepareVolumes,
    /// Pull a container's image.
    Pull {
        /// The container's name.
        container: String,
        /// For which attempt.
        attempt: u32,
    },
    /// Create an attempt and start it, or only start it when it is there already.
    Start {
        /// The container's name.
        container: String,
        /// Which attempt.
        attempt: u32,
    },
    /// Run the postStart hook.
    PostStart {
        /// The container's name.
        container: String,
    },
    /// Run the preStop hook.
    PreStop {
        /// The container's name.
        container: String,
    },
    /// Note that a container must stop, and why.
    BeginStop {
        /// The container's name.
        container: String,
        /// Until SIGKILL.
        grace_secs: i64,
        /// One sentence for the event.
        message: String,
    },
    /// Send the container's stop signal.
    Terminate {
        /// The container's name.
        container: String,
    },
    /// Send SIGKILL.
    Kill {
        /// The container's name.
        container: String,
    },
    /// Remove one attempt by force.
    Remove {
        /// The container's name.
        container: String,
        /// Which attempt.
        attempt: u32,
    },
    /// Count the established connections on serving ports.
    CountConnections,
    /// Remove name space and volumes.
    CleanUp,
    /// Delete the pod object for good.
    DeleteObject,
    /// Note that the pod outlived its deadline.
    BeginDeadline,
}

impl Action {
    /// The container that a step is about; `None` for steps of the pod as a whole.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Pull { container, .. }
            | Self::Start { container, .. }
            | Self::PostStart { container }
            | Self::PreStop { container }
            | Self::BeginStop { container, .. }
            | Self::Terminate { container }
            | Self::Kill { container }
            | Self::Remove { container, .. } => Some(container),
            Self::EnsureNetwork
            | Self::PrepareVolumes
            | Self::CountConnections
            | Self::CleanUp
            | Self::DeleteObject
            | Self::BeginDeadline => None,
        }
    }
}
