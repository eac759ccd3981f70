//! Pod volumes: what a container's volume mounts point to.
//!
//! Owns `<pods dir>/<uid>/{volumes,subpaths}`, the memory directory where secrets live, and `<data dir>/volumes`, where
//! the node's persistent volumes are. Three rules hold everywhere: a path that a container can write to is only ever
//! walked by descriptors that cannot leave it (faults A40, A41); the container engine's socket is never mounted (A38);
//! and a claim that held data is never silently empty (V03).

mod api;
mod atomic;
mod claims;
mod content;
mod empty_dir;
mod host_path;
mod kind;
mod mounts;
mod node_volumes;
mod ownership;
mod payload;
mod place;
mod problem;
mod reclaim;
mod sub_path;
mod tokens;
mod tree;
mod watches;

#[cfg(test)]
mod tests;

pub use api::{ApiFailure, KubeVolumeApi, VolumeApi};
pub use node_volumes::{NodeVolumes, VolumeTools, VolumesConfig};
pub use place::MemoryVolumes;
pub use reclaim::{Reclaimer, run_reclaimer};
