//! The pods of this network with their addresses and host ports: in memory, and in the records beneath.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    Cidr, PodHostPorts, RecordError,
    address::AddressChooser,
    records::{Record, Records},
};
use crate::{clock::Clock, ids::PodUid, seams::SandboxRequest};

/// Calls for one pod are serialised; this many groups of pods proceed independently.
const LOCKS: usize = 64;

/// Why a pod gets no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReserveError {
    #[error("no address of {0} is free")]
    Full(Cidr),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Which pod has which address. What it says is on disk before anything is made for the pod.
#[derive(Debug)]
pub(super) struct Pods {
    cidr: Cidr,
    clock: Clock,
    records: Records,
    state: Mutex<State>,
    locks: [tokio::sync::Mutex<()>; LOCKS],
    host_ports: watch::Sender<PodHostPorts>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<PodUid, Record>,
    chooser: AddressChooser,
}

impl Pods {
    /// Takes over the records that an earlier agent left under `run_dir`.
    pub(super) fn load(run_dir: &Path, cidr: Cidr, clock: Clock) -> Result<Self, RecordError> {
        let files = Records::open(run_dir)?;
        let records = files.load()?;
        let newest = records.values().map(|record| record.address).max();
        let chooser = AddressChooser::new(cidr, files.load_released()?, newest);
        let host_ports = watch::Sender::new(host_ports(&records));
        let state = Mutex::new(State { records, chooser });
        let locks = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Ok(Self { cidr, clock, records: files, state, locks, host_ports })
    }

    /// Waits until no other call is about this pod.
    pub(super) async fn serialise(&self, pod: &PodUid) -> tokio::sync::MutexGuard<'_, ()> {
        let group = usize::from(Sha256::digest(pod.as_str())[0]) % LOCKS;
        self.locks[group].lock().await
    }

    pub(super) fn uids(&self) -> Vec<PodUid> {
        self.lock().records.keys().cloned().collect()
    }

    pub(super) fn record(&self, pod: &PodUid) -> Option<Record> {
        self.lock().records.get(pod).cloned()
    }

    pub(super) fn host_ports(&self) -> watch::Receiver<PodHostPorts> {
        self.host_ports.subscribe()
    }

    /// The pod's address: the one in its record, else a new one with a new record.
    pub(super) fn reserve(&self, request: &SandboxRequest) -> Result<Ipv4Addr, ReserveError> {
        let mut state = self.lock();
        let present = state.records.get(&request.pod);
        if let Some(record) = present.filter(|record| record.host_ports == request.host_ports) {
            return Ok(record.address);
        }
        let address = match present {
            Some(record) => record.address,
            None => {
                let taken: HashSet<Ipv4Addr> = state.records.values().map(|record| record.address).collect();
                let chosen = state.chooser.choose(&taken, self.clock.now());
                chosen.ok_or(ReserveError::Full(self.cidr))?
            }
        };
        let record = Record::new(address, request);
        self.records.write(&request.pod, &record)?;
        state.records.insert(request.pod.clone(), record);
        self.publish(&state);
        Ok(address)
    }

    /// Forgets a pod of which nothing is left; its address rests for a while.
    pub(super) fn release(&self, pod: &PodUid) -> Result<(), RecordError> {
        let mut state = self.lock();
        let Some(address) = state.records.get(pod).map(|record| record.address) else { return Ok(()) };
        let now = self.clock.now();
        self.records.remove(pod, address, now)?;
        state.records.remove(pod);
        state.chooser.release(address, now);
        self.publish(&state);
        Ok(())
    }

    fn publish(&self, state: &State) {
        let wanted = host_ports(&state.records);
        self.host_ports.send_if_modified(|present| {
            let changed = *present != wanted;
            *present = wanted;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn host_ports(records: &BTreeMap<PodUid, Record>) -> PodHostPorts {
    let with_ports = records.iter().filter(|(_, record)| !record.host_ports.is_empty());
    with_ports.map(|(pod, record)| (pod.clone(), (record.address, record.host_ports.clone()))).collect()
}
