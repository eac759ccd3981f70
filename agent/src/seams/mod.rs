//! What the pod life cycle needs from the rest of the agent, as small traits with value types.
//!
//! The life cycle is the consumer and so owns the traits; `network`, `volumes`, `environment` and `streams` implement
//! them. [`fake`] holds in-memory implementations for tests, simulations and hollow nodes.

mod directory;
mod environment;
pub mod fake;
mod files;
mod network;
mod prober;
mod tunnel;
mod volumes;

pub use directory::{ContainerRecord, PodDirectory, PodRecord};
pub use environment::{EnvironmentError, PodEnvironment, PodFacts};
pub use files::{FilesRequest, PodFiles};
pub use network::{EngineNetworking, HostPort, NetworkError, NetworkMode, PodNetwork, Sandbox, SandboxRequest};
pub use prober::{ProbeSubject, Prober};
pub use tunnel::{TunnelDialer, TunnelIo};
pub use volumes::{MountSource, PodVolumes, PreparedVolume, VolumeError};
