//! A disk in memory that can lose power before any step, forget or tear what was not synced, fill up, and fail to sync.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use drover_store::embedded::Disk;
use redb::StorageBackend;

const BLOCK: usize = 4096;
/// What a real disk writes as a whole.
const SECTOR: usize = 512;

/// What becomes of writes that were not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// None reached the disk.
    Lost,
    /// All did.
    Kept,
    /// Each sector of each write did or did not, by this seed.
    Torn(u64),
}

#[derive(Debug, Default)]
struct State {
    /// What is on the platter.
    synced: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Steps since the last sync.
    pending: Vec<Step>,
    steps: u64,
    /// Whether the data file has its name.
    published: bool,
    crash_before: Option<u64>,
    crashed: bool,
    syncs: u64,
    failing_sync: Option<u64>,
    lying_after: Option<u64>,
    /// Blocks written to, for a disk of limited size.
    blocks: BTreeSet<usize>,
    capacity: Option<usize>,
    reserve: usize,
    reserved: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

/// A handle; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// A disk with room for so many bytes, of which `reserve` are set aside when asked.
    pub(crate) fn of_size(capacity: usize, reserve: usize) -> Self {
        let disk = Self::default();
        disk.state().capacity = Some(capacity);
        disk.state().reserve = reserve;
        disk
    }

    /// A disk whose syncs do nothing after the first so many.
    pub(crate) fn that_lies_about_syncing_after(syncs: u64) -> Self {
        let disk = Self::default();
        disk.state().lying_after = Some(syncs);
        disk
    }

    /// The power goes just before step `step` from now on; 0 is the next one.
    pub(crate) fn crash_before(&self, step: u64) {
        let mut state = self.state();
        state.crash_before = Some(state.steps + step);
    }

    /// The n-th sync from now on fails, once; 0 is the next one.
    pub(crate) fn fail_sync(&self, n: u64) {
        let mut state = self.state();
        state.failing_sync = Some(state.syncs + n);
    }

    pub(crate) fn resize(&self, capacity: usize) {
        self.state().capacity = Some(capacity);
    }

    pub(crate) fn steps(&self) -> u64 {
        self.state().steps
    }

    pub(crate) fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Bytes in use by the data file.
    pub(crate) fn used(&self) -> usize {
        self.state().blocks.len() * BLOCK
    }

    /// The power comes back. Gives a new disk, so that nobody can write to it through old handles.
    pub(crate) fn after_power_loss(&self, unsynced: Unsynced) -> Self {
        let state = self.state();
        let mut image = state.synced.clone();
        let mut coin = Coin::new(unsynced);
        for step in &state.pending {
            step.replay(&mut image, &mut coin);
        }
        let blocks = (0..image.len().div_ceil(BLOCK)).collect();
        let published = state.published;
        let survivor = State {
            published,
            synced: image.clone(),
            current: image,
            blocks,
            capacity: state.capacity,
            reserve: state.reserve,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(survivor)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Disk for SimulatedDisk {
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        Ok(if self.state().published { Some(Box::new(self.clone())) } else { None })
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.state().step(Step::SetLen(0))?;
        Ok(Box::new(self.clone()))
    }

    fn publish(&self) -> io::Result<()> {
        self.state().begin_step()?;
        self.state().published = true;
        Ok(())
    }

    fn reserve(&self) -> io::Result<()> {
        let mut state = self.state();
        let free = state.capacity.map(|capacity| capacity.saturating_sub(state.blocks.len() * BLOCK));
        if free.is_some_and(|free| free < state.reserve) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reserved = state.reserve;
        Ok(())
    }

    fn release(&self) -> io::Result<bool> {
        let mut state = self.state();
        Ok(std::mem::take(&mut state.reserved) > 0)
    }
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let offset = usize::try_from(offset).unwrap();
        let found = state.current.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().step(Step::SetLen(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.begin_step()?;
        state.syncs += 1;
        if state.failing_sync == Some(state.syncs - 1) {
            // As Linux does: the pages count as clean from now on, and were not written.
            return Err(io::Error::other("simulated I/O error at sync"));
        }
        if state.lying_after.is_some_and(|honest| state.syncs > honest) {
            return Ok(());
        }
        let pending = std::mem::take(&mut state.pending);
        for step in pending {
            step.replay(&mut state.synced, &mut Coin::new(Unsynced::Kept));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().step(Step::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

impl State {
    fn begin_step(&mut self) -> io::Result<()> {
        self.crashed |= self.crash_before == Some(self.steps);
        if self.crashed {
            return Err(io::Error::other("simulated power loss"));
        }
        self.steps += 1;
        Ok(())
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        self.begin_step()?;
        self.allocate(&step)?;
        step.replay(&mut self.current, &mut Coin::new(Unsynced::Kept));
        self.pending.push(step);
        Ok(())
    }

    fn allocate(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::SetLen(len) => {
                self.blocks.split_off(&len.div_ceil(BLOCK));
            }
            Step::Write(offset, data) => {
                let touched = offset / BLOCK..(offset + data.len()).div_ceil(BLOCK);
                let new: Vec<_> = touched.filter(|block| !self.blocks.contains(block)).collect();
                let wanted = (self.blocks.len() + new.len()) * BLOCK + self.reserved;
                if self.capacity.is_some_and(|capacity| wanted > capacity) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.blocks.extend(new);
            }
        }
        Ok(())
    }
}

impl Step {
    fn replay(&self, image: &mut Vec<u8>, coin: &mut Coin) {
        match self {
            Self::SetLen(len) => {
                if coin.toss() {
                    image.resize(*len, 0);
                }
            }
            Self::Write(offset, data) => {
                let mut at = *offset;
                for sector in data.chunks(SECTOR) {
                    if coin.toss() {
                        let end = at + sector.len();
                        image.resize(image.len().max(end), 0);
                        image[at..end].copy_from_slice(sector);
                    }
                    at += sector.len();
                }
            }
        }
    }
}

/// Says which sectors make it.
struct Coin {
    fate: Unsynced,
}

impl Coin {
    fn new(fate: Unsynced) -> Self {
        Self { fate }
    }

    fn toss(&mut self) -> bool {
        match &mut self.fate {
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Torn(seed) => {
                // splitmix64.
                *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *seed;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (mixed ^ (mixed >> 31)) & 1 == 1
            }
        }
    }
}
