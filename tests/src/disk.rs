//! How fast this machine's disk flushes: benches disclose it beside their figures.

use std::{fs::File, io::Write, time::Instant};

use anyhow::{Context, Result};

/// Writes for the median of the disk's flush time: enough for a stable median, done in well under a second.
const FLUSHES: usize = 101;

/// Measures the median of a 4 KiB write's `fdatasync` in a temporary folder, in microseconds.
///
/// # Errors
/// When the folder cannot be written.
pub fn fdatasync_p50_us() -> Result<u64> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("flush"))?;
    let mut took = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&[0; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let median = took.get(FLUSHES / 2).context("there is at least one")?;
    Ok(u64::try_from(median.as_micros())?)
}
