//! A disk in memory that can lose power before any step, forget or tear what was not synced, fill up, and fail.
//!
//! The crash sweeps, the client histories and the cluster's simulator run the shipping store on it. Deterministic: the
//! same calls and the same seeds give the same bytes. May not know anything of redb beyond its storage trait.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::disk::Disk;

const BLOCK: usize = 4096;
/// What a real disk writes as a whole.
const SECTOR: usize = 512;

/// What becomes of writes that were not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// None reached the disk.
    Lost,
    /// All did; also what a kill of the process leaves, since the kernel lives on.
    Kept,
    /// Each sector of each write did or did not, by this seed.
    Torn(u64),
}

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// `EIO`. A sync that fails so drops what it should have written, as Linux does: a later sync succeeds without it.
    Io,
    /// `ENOSPC`.
    Full,
}

#[derive(Debug, Default)]
struct State {
    /// What is on the platter.
    synced: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Steps since the last sync.
    pending: Vec<Step>,
    /// Whether the data file has its name.
    published: bool,
    steps: u64,
    crash_before: Option<u64>,
    crashed: bool,
    failing_step: Option<(u64, Failure)>,
    full_from: Option<u64>,
    syncs: u64,
    failing_sync: Option<u64>,
    lying_after: Option<u64>,
    reads: u64,
    failing_read: Option<u64>,
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
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// A disk with room for so many bytes, of which `reserve` are set aside when asked.
    pub fn of_size(capacity: usize, reserve: usize) -> Self {
        let disk = Self::default();
        disk.state().capacity = Some(capacity);
        disk.state().reserve = reserve;
        disk
    }

    /// A disk whose syncs do nothing after the first so many.
    pub fn that_lies_about_syncing_after(syncs: u64) -> Self {
        let disk = Self::default();
        disk.state().lying_after = Some(syncs);
        disk
    }

    /// The power goes just before step `step` from now on; 0 is the next one. Every later call fails.
    ///
    /// A step is anything that changes the disk: a write, a change of length, a sync, the making and the naming of a file.
    pub fn crash_before(&self, step: u64) {
        let mut state = self.state();
        state.crash_before = Some(state.steps + step);
    }

    /// Step `step` from now on fails, once; 0 is the next one.
    pub fn fail_step(&self, step: u64, failure: Failure) {
        let mut state = self.state();
        state.failing_step = Some((state.steps + step, failure));
    }

    /// From step `step` from now on no more space is given than is in use or set aside then; 0 is the next one.
    pub fn fill_before(&self, step: u64) {
        let mut state = self.state();
        state.full_from = Some(state.steps + step);
    }

    /// The n-th sync from now on fails with `EIO`, once; 0 is the next one.
    pub fn fail_sync(&self, n: u64) {
        let mut state = self.state();
        state.failing_sync = Some(state.syncs + n);
    }

    /// The n-th read from now on fails with `EIO`, once; 0 is the next one.
    pub fn fail_read(&self, n: u64) {
        let mut state = self.state();
        state.failing_read = Some(state.reads + n);
    }

    /// Gives the disk another size in bytes.
    pub fn resize(&self, capacity: usize) {
        let mut state = self.state();
        state.full_from = None;
        state.capacity = Some(capacity);
    }

    /// Bytes that are set aside when the store asks for it.
    pub fn reserve_bytes(&self) -> usize {
        self.state().reserve
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Reads of the data file so far.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Whether the power has gone.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Bytes in use by the data file.
    pub fn used(&self) -> usize {
        self.state().blocks.len() * BLOCK
    }

    /// The bytes that reads of the data file see.
    pub fn contents(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    /// The power comes back. Gives a new disk without planned faults, so that nobody can write to it through old handles.
    pub fn after_power_loss(&self, unsynced: Unsynced) -> Self {
        let state = self.state();
        let image = match unsynced {
            Unsynced::Lost => state.synced.clone(),
            Unsynced::Kept => state.current.clone(),
            Unsynced::Torn(seed) => {
                let (mut image, mut coin) = (state.synced.clone(), Coin(seed));
                state.pending.iter().for_each(|step| step.replay(&mut image, || coin.toss()));
                image
            }
        };
        let survivor = State {
            published: state.published,
            blocks: (0..image.len().div_ceil(BLOCK)).collect(),
            synced: image.clone(),
            current: image,
            capacity: state.capacity,
            reserve: state.reserve,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(survivor)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.sync_data()?;
        let mut state = self.state();
        state.begin_step()?;
        state.published = true;
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
        let mut state = self.state();
        state.reads += 1;
        if state.failing_read == Some(state.reads - 1) {
            return Err(io::Error::other("simulated I/O error at read"));
        }
        let start = in_memory(offset)?;
        let found = start.checked_add(out.len()).and_then(|end| state.current.get(start..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().step(Step::SetLen(in_memory(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let begun = state.begin_step();
        state.syncs += 1;
        let fails = state.failing_sync == Some(state.syncs - 1);
        let outcome =
            begun.and_then(|()| if fails { Err(io::Error::other("simulated I/O error at sync")) } else { Ok(()) });
        if outcome.is_err() && !state.crashed {
            // As Linux does: the pages count as clean from now on, and were not written.
            state.pending.clear();
        }
        outcome?;
        if state.lying_after.is_some_and(|honest| state.syncs > honest) {
            return Ok(());
        }
        let pending = std::mem::take(&mut state.pending);
        pending.iter().for_each(|step| step.replay(&mut state.synced, || true));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().step(Step::Write(in_memory(offset)?, data.to_vec()))
    }
}

fn in_memory(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl State {
    fn begin_step(&mut self) -> io::Result<()> {
        self.crashed |= self.crash_before == Some(self.steps);
        if self.crashed {
            return Err(io::Error::other("simulated power loss"));
        }
        // Whoever uses the reserve already keeps what is left of it.
        if self.full_from == Some(self.steps) && (self.reserved > 0 || self.reserve == 0) {
            self.capacity = Some(self.blocks.len() * BLOCK + self.reserved);
        }
        self.steps += 1;
        match self.failing_step {
            Some((step, Failure::Io)) if step == self.steps - 1 => Err(io::Error::other("simulated I/O error")),
            Some((step, Failure::Full)) if step == self.steps - 1 => Err(io::ErrorKind::StorageFull.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        self.begin_step()?;
        self.allocate(&step)?;
        step.replay(&mut self.current, || true);
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
    /// Changes `image`; `arrives` says of the change of length, or of each sector, whether it made it.
    fn replay(&self, image: &mut Vec<u8>, mut arrives: impl FnMut() -> bool) {
        match self {
            Self::SetLen(len) => {
                if arrives() {
                    image.resize(*len, 0);
                }
            }
            Self::Write(offset, data) => {
                let mut at = *offset;
                for sector in data.chunks(SECTOR) {
                    if arrives() {
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

/// Says which sectors make it: splitmix64, which is as good as this needs and the same everywhere.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}
