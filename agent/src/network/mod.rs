//! The pod network of one host: bridge, name spaces, addresses, forwarding rules and the runtime wrapper.
//!
//! Owns everything below the service proxy: after [`HostNetwork::start`] the bridge holds the gateway address and the
//! host forwards, and [`HostNetwork`] serves the life cycle as its [`crate::seams::PodNetwork`]. What it makes outlives
//! the agent: the kernel keeps name spaces and links, and one small record for each pod under the run directory says
//! whose they are. Nothing without such a record is ever touched. Where the wrapper cannot be registered,
//! [`BridgeNetwork`] stands in.

mod address;
mod bridge;
mod bridge_mode;
mod cidr;
mod connections;
mod daemon_json;
pub mod fabric;
mod files;
mod forwarding;
mod host;
mod link;
mod mode;
mod netns;
mod pod_link;
mod pods;
mod records;
mod runtime;

pub(crate) use address::AddressChooser;
pub use bridge::BridgeError;
pub use bridge_mode::{BridgeNetwork, EngineAccess, EngineNetworkError, HolderError, ImageError, remove_bridge_mode};
pub use cidr::{Cidr, CidrError};
pub use daemon_json::DaemonJsonError;
pub use files::{hostname, hosts_file, resolver_file};
pub use forwarding::ForwardingError;
pub use host::{HostNetwork, NetworkConfig, StartError};
pub use link::LinkError;
pub use mode::{ModeChoice, ModeChoiceError, NodeNetwork, mode_of_pods, record_mode, settle};
pub use netns::NetnsError;
pub use records::{PodHostPorts, RecordError};
pub use runtime::{Registration, RegistrationError, RuntimeConfig, register, unregister};
