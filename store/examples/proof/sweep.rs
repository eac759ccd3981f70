//! Power loss, `EIO` and `ENOSPC` at every single step of a scenario, and power loss again at every step of the recovery.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use drover_store::embedded::{Failure, SimulatedDisk, Unsynced};

use crate::rng::Rng;
use crate::scenario::{self, Known, Phase, Scenario};

const FATES: [Unsynced; 5] = [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(1), Unsynced::Torn(2), Unsynced::Torn(3)];
/// The step at which nothing happens any more.
const NEVER: u64 = u64::MAX / 2;

/// What a sweep counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Steps of the scenario by phase.
    pub(crate) steps: [u64; Phase::ALL.len()],
    /// Power losses, each with one fate of the unsynced writes.
    pub(crate) losses: AtomicU64,
    /// Power losses during the recovery from one.
    pub(crate) double_losses: AtomicU64,
    /// Failed writes, syncs and reads.
    pub(crate) io_errors: AtomicU64,
    /// Steps at which the disk was full, for once or from then on.
    pub(crate) full: AtomicU64,
    /// Acknowledged writes that were gone, or state that nobody wrote.
    pub(crate) lost: AtomicU64,
    /// Revisions that went back.
    pub(crate) regressions: AtomicU64,
    /// Stores that did not open, serve or heal.
    pub(crate) stuck: AtomicU64,
}

/// How much of it to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Every so many steps; 1 is all of them.
    pub(crate) stride: u64,
    /// Recovery is swept after a power loss at every so many steps.
    pub(crate) recovery_stride: u64,
    pub(crate) threads: u64,
}

/// `sweep [STRIDE] [RECOVERY_STRIDE] [ordinary|full]`. Returns whether nothing was found.
pub(crate) fn program(arguments: &[&str]) -> Result<bool, Box<dyn std::error::Error>> {
    let stride = arguments.first().map_or(Ok(1), |stride| stride.parse())?;
    let recovery_stride = arguments.get(1).map_or(Ok(1), |stride| stride.parse())?;
    let effort = Effort { stride, recovery_stride, threads: 2 };
    let only = arguments.get(2);
    let mut is_clean = true;
    for scenario in [scenario::ordinary(), scenario::full_disk()] {
        if only.is_some_and(|only| !scenario.name.starts_with(only)) {
            continue;
        }
        let begun = std::time::Instant::now();
        let counts = run(&scenario, effort);
        println!("{}: {counts}; {:.0} s", scenario.name, begun.elapsed().as_secs_f64());
        is_clean &= counts.is_clean();
    }
    Ok(is_clean)
}

/// Sweeps a scenario.
pub(crate) fn run(scenario: &Scenario, effort: Effort) -> Counts {
    let disk = scenario.disk();
    let reference = scenario.run(&disk);
    let mut counts = Counts { steps: reference.steps, ..Counts::default() };
    counts.steps[Phase::Recovery as usize] = 0;
    let (steps, reads) = (disk.steps(), disk.reads());
    std::thread::scope(|scope| {
        for thread in 0..effort.threads {
            let counts = &counts;
            scope.spawn(move || {
                for step in (thread * effort.stride..steps).step_by((effort.threads * effort.stride) as usize) {
                    lose_power(scenario, step, step.is_multiple_of(effort.recovery_stride), counts);
                    fail(scenario, &format!("EIO at step {step}"), counts, |disk| disk.fail_step(step, Failure::Io));
                    run_full(scenario, step, counts);
                }
                for read in (thread * effort.stride..reads).step_by((effort.threads * effort.stride) as usize) {
                    fail(scenario, &format!("EIO at read {read}"), counts, |disk| disk.fail_read(read));
                }
            });
        }
    });
    counts
}

/// The power goes before `step`, and again before every step of the recovery.
fn lose_power(scenario: &Scenario, step: u64, with_recovery: bool, counts: &Counts) {
    let disk = scenario.disk();
    disk.crash_before(step);
    let known = scenario.run(&disk);
    for fate in FATES {
        counts.losses.fetch_add(1, Ordering::Relaxed);
        counts.judge(scenario, &disk.after_power_loss(fate), &known, &format!("step {step}, {fate:?}"));
    }
    if !with_recovery {
        return;
    }
    let mut rng = Rng::new(step);
    for first in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(rng.next())] {
        for recovery_step in 0.. {
            let again = disk.after_power_loss(first);
            again.crash_before(recovery_step);
            if let Ok(store) = scenario.open(&again) {
                store.close();
            }
            if !again.crashed() {
                break;
            }
            for second in [Unsynced::Lost, Unsynced::Torn(rng.next())] {
                counts.double_losses.fetch_add(1, Ordering::Relaxed);
                let what = format!("step {step}, {first:?}, recovery step {recovery_step}, {second:?}");
                counts.judge(scenario, &again.after_power_loss(second), &known, &what);
            }
        }
    }
}

/// One step or read fails: the store may end, and what it acknowledged before is there after a restart.
fn fail(scenario: &Scenario, what: &str, counts: &Counts, plan: impl Fn(&SimulatedDisk)) {
    let disk = scenario.disk();
    plan(&disk);
    let known = scenario.run(&disk);
    for fate in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(5)] {
        counts.io_errors.fetch_add(1, Ordering::Relaxed);
        counts.judge(scenario, &disk.after_power_loss(fate), &known, &format!("{what}, {fate:?}"));
    }
}

/// The disk is full at one step, or from it on: nothing is lost, deletes still work, and it heals.
fn run_full(scenario: &Scenario, step: u64, counts: &Counts) {
    for stays in [false, true] {
        let disk = scenario.disk();
        if stays {
            disk.fill_before(step)
        } else {
            disk.fail_step(step, Failure::Full)
        };
        counts.full.fetch_add(1, Ordering::Relaxed);
        let (known, store) = scenario.run_and_keep(&disk);
        let what = format!("full at step {step}, {}", if stays { "for good" } else { "once" });
        match store {
            Some(store) => {
                // Only a failed sync may have ended it, which nothing can heal but a restart.
                let ended = matches!(store.health().state, drover_store::State::Broken { .. });
                let healed = if ended { Ok(()) } else { scenario::heals(&store, &disk, &known) };
                store.close();
                if let Err(fault) = healed {
                    counts.stuck.fetch_add(1, Ordering::Relaxed);
                    println!("FAULT {}: {what}: {fault}", scenario.name);
                }
                if ended {
                    counts.judge(scenario, &disk.after_power_loss(Unsynced::Lost), &known, &what);
                }
            }
            None => {
                let disk = disk.after_power_loss(Unsynced::Lost);
                disk.resize(NEVER as usize);
                counts.judge(scenario, &disk, &known, &what);
            }
        }
    }
}

impl Counts {
    pub(crate) fn is_clean(&self) -> bool {
        [&self.lost, &self.regressions, &self.stuck].iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    fn judge(&self, scenario: &Scenario, disk: &SimulatedDisk, known: &Known, what: &str) {
        let Err(fault) = scenario.check(disk, known) else { return };
        let count = match &fault {
            scenario::Fault::Lost(_) => &self.lost,
            scenario::Fault::Regression(_) => &self.regressions,
            scenario::Fault::Stuck(_) => &self.stuck,
        };
        if count.fetch_add(1, Ordering::Relaxed) < 5 {
            println!("FAULT {}: {what}: {fault}", scenario.name);
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let steps: Vec<_> = Phase::ALL.iter().zip(self.steps).filter(|(_, steps)| *steps > 0).collect();
        let steps: Vec<_> = steps.iter().map(|(phase, steps)| format!("{steps} {phase:?}")).collect();
        write!(
            f,
            "steps {}; {} power losses, {} during recovery, {} I/O errors, {} full disks; \
             {} acknowledged writes lost, {} revision regressions, {} stuck",
            steps.join(" + "),
            number(&self.losses),
            number(&self.double_losses),
            number(&self.io_errors),
            number(&self.full),
            number(&self.lost),
            number(&self.regressions),
            number(&self.stuck)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_power_loss_io_error_or_full_disk_loses_anything() {
        let counts = run(&scenario::ordinary(), Effort { stride: 29, recovery_stride: 290, threads: 2 });
        println!("{counts}");
        assert!(counts.is_clean(), "{counts}");
    }

    #[test]
    fn a_disk_that_lies_about_syncing_is_noticed() {
        let mut scenario = scenario::ordinary();
        scenario.lies_after = Some(20);
        let counts = run(&scenario, Effort { stride: 31, recovery_stride: NEVER, threads: 2 });
        assert!(!counts.is_clean(), "{counts}");
    }
}
