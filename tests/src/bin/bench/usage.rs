//! CPU seconds, from `/proc`: of the whole machine, of this program, and of `drover up` with the programs it ran.

use std::fs;

use anyhow::{Context, Result};

/// `USER_HZ`: the unit of every time in `/proc`, 100 on each architecture that Linux and Rust share.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds at one moment, or between two.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Cpu {
    /// Busy time of all processors, whoever used it.
    pub(crate) machine: f64,
    /// This program: it is the client and the watcher.
    pub(crate) client: f64,
    /// `drover up` and its children that have ended; 0 without one.
    pub(crate) plane: f64,
}

impl Cpu {
    /// Reads the counters now; `plane` is the process id of `drover up`.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(crate) fn now(plane: Option<u32>) -> Result<Self> {
        Ok(Self {
            machine: machine_busy(&read("/proc/stat")?).context("/proc/stat has another form")?,
            client: process_busy(&read("/proc/self/stat")?).context("/proc/self/stat has another form")?,
            plane: plane.map_or(Ok(0.0), of_process)?,
        })
    }

    /// Returns what was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            machine: self.machine - earlier.machine,
            client: self.client - earlier.client,
            plane: self.plane - earlier.plane,
        }
    }

    /// Scales a span, as for "per container".
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { machine: self.machine * factor, client: self.client * factor, plane: self.plane * factor }
    }

    /// Adds up two spans.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            machine: self.machine + other.machine,
            client: self.client + other.client,
            plane: self.plane + other.plane,
        }
    }
}

/// Returns the CPU seconds that a process and its ended children have used.
///
/// # Errors
/// When it is gone.
pub(crate) fn of_process(pid: u32) -> Result<f64> {
    process_busy(&read(&format!("/proc/{pid}/stat"))?).with_context(|| format!("/proc/{pid}/stat has another form"))
}

/// Returns the proportional set size of a process in bytes: shared pages count by their share.
///
/// # Errors
/// When it is gone, or this is not root.
pub(crate) fn pss_bytes(pid: u32) -> Result<u64> {
    let text = read(&format!("/proc/{pid}/smaps_rollup"))?;
    pss(&text).with_context(|| format!("no Pss for process {pid}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

fn machine_busy(stat: &str) -> Option<f64> {
    let ticks: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq: all but idle and iowait.
    let busy = ticks.get(..3)?.iter().chain(ticks.get(5..7)?).sum::<f64>();
    Some(busy / TICKS_PER_SECOND)
}

fn process_busy(stat: &str) -> Option<f64> {
    // The name stands in parentheses and may hold anything; utime, stime, cutime and cstime are fields 14 to 17.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Option<Vec<f64>> = fields.split_whitespace().skip(11).take(4).map(|field| field.parse().ok()).collect();
    let ticks = ticks.filter(|ticks| ticks.len() == 4)?;
    Some(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

fn pss(smaps_rollup: &str) -> Option<u64> {
    let kib = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_of_the_machine_leaves_out_idle_and_iowait() {
        let stat = "cpu  100 20 300 9000 800 1 2 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n";
        assert_eq!(machine_busy(stat), Some(4.23));
    }

    #[test]
    fn busy_time_of_a_process_includes_children_and_survives_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 25 75 20 0 9 0 1 2 3";
        assert_eq!(process_busy(stat), Some(3.0));
        assert_eq!(process_busy("7 (x) S 1"), None);
    }

    #[test]
    fn the_proportional_set_size_is_read_in_bytes() {
        assert_eq!(
            pss("00400000-7fff ---p [rollup]\nRss:  9000 kB\nPss:                8192 kB\nPss_Anon: 1 kB\n"),
            Some(8192 * 1024)
        );
        assert_eq!(pss("Rss: 9000 kB\n"), None);
    }
}
