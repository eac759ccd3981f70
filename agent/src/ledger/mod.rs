//! What this agent created on this host: the proof, beside labels, that something is ours to remove.
//!
//! An entry per pod says that we began to make things for it. A secret key seals the names of its containers: labels can
//! be baked into any image, the seal cannot. A new data directory has a new key and so owns nothing of an old one.
//! Entries and key are in files ([`directory`]) or, on a simulated node, on a disk in memory ([`MemoryDisk`]).

mod directory;
mod memory;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::directory::Directory;
pub use self::memory::MemoryDisk;
use crate::{
    chance::Chance,
    config::{Owner, identity_of},
    engine::ContainerSummary,
    ids::PodUid,
};

/// The ledger. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    place: Place,
    key: Arc<[u8]>,
    owner: Owner,
    entries: Arc<Mutex<BTreeMap<PodUid, LedgerEntry>>>,
}

/// Where entries are kept.
#[derive(Debug, Clone)]
enum Place {
    Directory(Directory),
    Memory(MemoryDisk),
}

/// What the ledger says of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("ledger: cannot {step} {path}")]
pub struct LedgerError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Ledger {
    /// Opens the ledger in `directory`, making it and its key if they are not there.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(directory: &Path, owner: Owner) -> Result<Self, LedgerError> {
        let directory = Directory::open(directory)?;
        let (key, entries) = (directory.key()?, directory.entries()?);
        Ok(Self::new(Place::Directory(directory), key.into(), owner, entries))
    }

    /// Opens the ledger on a disk in memory. A disk without a key gets one from `chance`.
    pub fn in_memory(disk: &MemoryDisk, owner: Owner, chance: &Chance) -> Self {
        Self::new(Place::Memory(disk.clone()), disk.key(chance).into(), owner, disk.entries())
    }

    fn new(place: Place, key: Arc<[u8]>, owner: Owner, entries: BTreeMap<PodUid, LedgerEntry>) -> Self {
        Self { place, key, owner, entries: Arc::new(Mutex::new(entries)) }
    }

    /// Enters a pod before anything is made for it; it is on disk when this returns.
    ///
    /// # Errors
    /// When the entry cannot be written.
    pub async fn enter(&self, pod: &PodUid, entry: LedgerEntry) -> Result<(), LedgerError> {
        if self.contains(pod) {
            return Ok(());
        }
        match &self.place {
            Place::Directory(directory) => directory.enter(pod, &entry).await?,
            Place::Memory(disk) => disk.enter(pod, &entry).map_err(at("write", Path::new(pod.as_str())))?,
        }
        self.lock().insert(pod.clone(), entry);
        Ok(())
    }

    /// Forgets a pod of which nothing is left.
    ///
    /// # Errors
    /// When the entry cannot be removed.
    pub fn forget(&self, pod: &PodUid) -> Result<(), LedgerError> {
        self.lock().remove(pod);
        match &self.place {
            Place::Directory(directory) => directory.forget(pod),
            Place::Memory(disk) => {
                disk.forget(pod);
                Ok(())
            }
        }
    }

    /// Whether something was made for this pod.
    pub fn contains(&self, pod: &PodUid) -> bool {
        self.lock().contains_key(pod)
    }

    /// The pods for which something was made.
    pub fn pods(&self) -> Vec<(PodUid, LedgerEntry)> {
        self.lock().iter().map(|(uid, entry)| (uid.clone(), entry.clone())).collect()
    }

    /// Seals a container's name (HMAC-SHA256 with the ledger's key).
    pub fn seal(&self, container_name: &str) -> String {
        let pad =
            |byte: u8| -> Vec<u8> { (0..64).map(|index| self.key.get(index).copied().unwrap_or(0) ^ byte).collect() };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(container_name.as_bytes()).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        outer.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this agent made the container: labels of this cluster and node, an entry for its pod, and our seal on
    /// its name.
    pub fn owns(&self, container: &ContainerSummary) -> bool {
        let Some(identity) = identity_of(&container.labels) else { return false };
        if drover_api::mutants::active("N09-labels-are-proof") {
            return identity.owner == self.owner;
        }
        identity.owner == self.owner
            && identity.name() == container.name
            && identity.seal == self.seal(&container.name)
            && self.contains(&identity.pod)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PodUid, LedgerEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError { step, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ContainerIdentity, engine::ContainerPhase, ids::ContainerId};

    fn owner() -> Owner {
        Owner { cluster: "c".to_owned(), node: "n".to_owned() }
    }

    fn container(ledger: &Ledger, uid: &PodUid) -> ContainerSummary {
        let mut identity = ContainerIdentity {
            owner: owner(),
            pod: uid.clone(),
            namespace: "default".to_owned(),
            pod_name: "web".to_owned(),
            container: "app".to_owned(),
            attempt: 0,
            hash: "h".to_owned(),
            seal: String::new(),
        };
        identity.seal = ledger.seal(&identity.name());
        ContainerSummary {
            id: ContainerId::new("0123456789ab").expect("hexadecimal"),
            name: identity.name(),
            labels: identity.labels(),
            phase: ContainerPhase::Running,
            image_id: String::new(),
        }
    }

    #[tokio::test]
    async fn only_sealed_containers_of_entered_pods_are_ours() {
        let dir = tempfile::tempdir().expect("temp dir");
        let uid = PodUid::new("u-1").expect("uid");
        let ledger = Ledger::open(dir.path(), owner()).expect("open");
        let ours = container(&ledger, &uid);
        assert!(!ledger.owns(&ours), "no entry yet");
        let entry = LedgerEntry { namespace: "default".to_owned(), name: "web".to_owned() };
        ledger.enter(&uid, entry).await.expect("enter");
        assert!(ledger.owns(&ours));

        let mut look_alike = ours.clone();
        look_alike.name = "drover_app_web_default_u-1_1".to_owned();
        assert!(!ledger.owns(&look_alike), "copied labels under another name");
        let mut forged = ours.clone();
        forged.labels.insert("dev.drover.seal".to_owned(), "00".repeat(16));
        assert!(!ledger.owns(&forged), "labels without our seal");

        let again = Ledger::open(dir.path(), owner()).expect("open again");
        assert!(again.owns(&ours), "entry and key outlive the agent");
        let other = tempfile::tempdir().expect("temp dir");
        assert!(!Ledger::open(other.path(), owner()).expect("open").owns(&ours), "another ledger owns nothing");
        again.forget(&uid).expect("forget");
        assert!(!again.owns(&ours));
    }

    #[tokio::test]
    async fn a_disk_in_memory_keeps_what_was_synced_and_loses_what_it_lied_about() {
        let (disk, uid) = (MemoryDisk::default(), PodUid::new("u-1").expect("uid"));
        let open = || Ledger::in_memory(&disk, owner(), &Chance::seeded(1));
        let entry = LedgerEntry { namespace: "default".to_owned(), name: "web".to_owned() };
        let ledger = open();
        let ours = container(&ledger, &uid);
        disk.fail(true);
        ledger.enter(&uid, entry.clone()).await.expect_err("a disk that fails");
        disk.fail(false);
        disk.lie(true);
        ledger.enter(&uid, entry.clone()).await.expect("a disk that lies");
        assert!(open().owns(&ours), "the agent's end loses nothing");
        disk.lose_unsynced();
        assert!(!open().owns(&ours), "the host's end does");
        disk.lie(false);
        open().enter(&uid, entry).await.expect("enter");
        disk.lose_unsynced();
        assert!(open().owns(&ours));
        open().forget(&uid).expect("forget");
        assert!(!open().contains(&uid));
        disk.lose_unsynced();
        assert!(open().contains(&uid), "a removal is not synced: it may come undone");
    }
}
