//! What of a hollow node outlives its agent.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::ProxyTable;
use crate::{
    chance::Chance,
    clock::Clock,
    engine::{
        EngineInfo,
        fake::{Behaviour, FakeEngine},
    },
    ledger::MemoryDisk,
    neighbours::Heard,
    node::{HostFacts, HostPressure, HostView},
    seams::fake::{FakeNetwork, MemoryFiles},
    volumes::MemoryVolumes,
};

/// Engine, kernel and disk of a hollow node. Cheap to clone; clones are the same node.
#[derive(Debug, Clone)]
pub struct HollowState {
    /// The engine.
    pub engine: FakeEngine,
    /// The kernel's name spaces.
    pub network: FakeNetwork,
    /// The ledger's disk.
    pub disk: MemoryDisk,
    /// The files of pods.
    pub files: MemoryFiles,
    /// The volumes.
    pub volumes: MemoryVolumes,
    /// The kernel's table of Services; `None` acknowledges every revision without making a table.
    pub table: Option<ProxyTable>,
    /// What the host hears of its neighbours; nothing, unless somebody says otherwise.
    pub heard: watch::Sender<Heard>,
    /// The host's facts.
    pub host: HollowFacts,
}

/// The facts of a hollow node's host. Cheap to clone; clones are the same host.
#[derive(Debug, Clone)]
pub struct HollowFacts {
    boots: Arc<AtomicU64>,
    pressure: Arc<Mutex<HostPressure>>,
    disk_bytes: u64,
    pods_max: u32,
    id: u64,
}

/// What a node offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Cores.
    pub cpus: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Pods.
    pub pods: u32,
}

impl Default for Capacity {
    /// A middling server: 8 cores, 32 GiB, 500 pods.
    fn default() -> Self {
        Self { cpus: 8, memory_bytes: 32 << 30, pods: 500 }
    }
}

impl HollowState {
    /// A node whose engine has no images and pulls any at once, with a table of Services.
    pub fn new(clock: &Clock, chance: &Chance, capacity: Capacity) -> Self {
        let id = chance.number();
        let engine = FakeEngine::with_chance(clock.clone(), chance.clone());
        engine.set_info(EngineInfo {
            id: format!("hollow-{id:016x}"),
            version: "20.10.24".to_owned(),
            architecture: "x86_64".to_owned(),
            os: "linux".to_owned(),
            os_image: "Hollow".to_owned(),
            kernel: "6.1.0-hollow".to_owned(),
            cpus: capacity.cpus,
            memory_bytes: capacity.memory_bytes,
            ..Default::default()
        });
        engine.add_any_registry_image(Behaviour::default(), std::time::Duration::ZERO);
        let host = HollowFacts {
            boots: Arc::default(),
            pressure: Arc::default(),
            disk_bytes: 100 << 30,
            pods_max: capacity.pods,
            id,
        };
        Self {
            engine,
            network: FakeNetwork::default(),
            disk: MemoryDisk::default(),
            files: MemoryFiles::default(),
            volumes: MemoryVolumes::default(),
            table: Some(ProxyTable::default()),
            heard: watch::channel(Heard::default()).0,
            host,
        }
    }

    /// Ends the host and starts it again: processes, name spaces and the table of Services are gone, containers and files
    /// stay. `power_lost` also loses what no program had synced. The agent must have been killed before.
    pub fn reboot(&self, power_lost: bool) {
        self.engine.restart(false);
        self.network.lose_all();
        if let Some(table) = &self.table {
            table.lose();
        }
        if power_lost {
            self.disk.lose_unsynced();
        }
        self.host.boots.fetch_add(1, Ordering::SeqCst);
    }
}

impl HollowFacts {
    /// What is short from now on.
    pub fn set_pressure(&self, pressure: HostPressure) {
        *self.pressure.lock().unwrap_or_else(PoisonError::into_inner) = pressure;
    }
}

impl HostView for HollowFacts {
    fn facts(&self, _engine_root: &std::path::Path) -> HostFacts {
        HostFacts {
            machine_id: format!("{:032x}", self.id),
            boot_id: format!("{:016x}-{}", self.id, self.boots.load(Ordering::SeqCst)),
            disk_bytes: self.disk_bytes,
            pods_max: Some(self.pods_max),
        }
    }

    fn pressure(&self, _engine_root: &std::path::Path) -> HostPressure {
        *self.pressure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
