//! What was measured, as a table for people and one JSON line for programs.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

mod table;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    peer::{Best, Network, Point, Removal},
    plane::Start,
    startup::{Idle, Starts},
    usage::Cpu,
};

/// What the issue asks for: ours divided by the direct client's best, for creating and for removing alike.
const GOALS: [(Network, f64); 2] = [(Network::Bridge, 1.5), (Network::Host, 0.8)];

/// Which of the direct client's rates ours is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    /// All its batches of as many containers as ours.
    SameBatches,
    /// Its luckiest batch, the small ones of the sweep included: harder than asked.
    FastestBatch,
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arm {
    /// The direct API client.
    Direct(Network),
    /// `drover up`.
    Ours,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Made containers and started them.
    Create,
    /// Removed them.
    Remove(Removal),
}

/// One measured batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    arm: Arm,
    work: Work,
    count: usize,
    took: Duration,
    cpu: Cpu,
}

/// Everything that was measured so far.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Value,
    background: Vec<(Arm, f64)>,
    /// The sweep of each network, in the order of [`Network::ALL`].
    pub(crate) sweep: [Vec<Point>; 2],
    /// The best of each.
    pub(crate) best: Option<[Best; 2]>,
    /// The batches in the order in which they ran.
    pub(crate) samples: Vec<Sample>,
    /// Start times.
    pub(crate) starts: Option<Starts>,
    /// Idle cost.
    pub(crate) idle: Option<Idle>,
}

/// All batches of one arm and one kind of work, added up.
#[derive(Debug, Clone, Copy)]
struct Total {
    rate: f64,
    rate_min: f64,
    rate_max: f64,
    cpu_ms_per_container: Cpu,
}

impl Arm {
    fn name(self) -> String {
        match self {
            Self::Direct(network) => format!("direct, {}", network.name()),
            Self::Ours => "drover up".to_owned(),
        }
    }
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Remove(Removal::Stop) => "remove",
            Self::Remove(Removal::Force) => "rm -f",
        }
    }
}

impl Sample {
    /// A batch of creations.
    pub(crate) fn create(arm: Arm, count: usize, took: Duration, cpu: Cpu) -> Self {
        Self { arm, work: Work::Create, count, took, cpu }
    }

    /// A batch of removals.
    pub(crate) fn remove(arm: Arm, removal: Removal, count: usize, (took, cpu): (Duration, Cpu)) -> Self {
        Self { arm, work: Work::Remove(removal), count, took, cpu }
    }

    /// Says it in one line, for who waits for the report.
    pub(crate) fn line(&self) -> String {
        let (arm, work) = (self.arm.name(), self.work.name());
        format!("{arm}: {work} of {} took {:.2?}: {:.1}/s", self.count, self.took, self.rate())
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    fn to_json(self) -> Value {
        json!({
            "arm": self.arm.name(), "work": self.work.name(), "count": self.count,
            "seconds": self.took.as_secs_f64(), "rate": self.rate(),
            "cpu_seconds": {"machine": self.cpu.machine, "client": self.cpu.client, "drover": self.cpu.plane},
        })
    }
}

impl Report {
    /// An empty report about a run on `machine`.
    pub(crate) fn new(machine: Value) -> Self {
        Self {
            machine,
            background: Vec::new(),
            sweep: [Vec::new(), Vec::new()],
            best: None,
            samples: Vec::new(),
            starts: None,
            idle: None,
        }
    }

    /// Notes how many processors others kept busy just before an arm.
    pub(crate) fn background(&mut self, arm: Arm, cores: f64) {
        self.background.push((arm, cores));
    }

    /// Prints the table and the JSON line.
    pub(crate) fn print(&self) {
        println!("{}\n{}", self.table(), self.to_json());
    }

    fn total(&self, arm: Arm, work: Work) -> Option<Total> {
        let of_both = |sample: &&Sample| sample.arm == arm && sample.work == work;
        let samples: Vec<&Sample> = self.samples.iter().filter(of_both).collect();
        let count: usize = samples.iter().map(|sample| sample.count).sum();
        let took: Duration = samples.iter().map(|sample| sample.took).sum();
        let cpu = samples.iter().fold(Cpu::default(), |sum, sample| sum.plus(sample.cpu));
        let rates = || samples.iter().map(|sample| sample.rate());
        (count > 0).then(|| Total {
            rate: count as f64 / took.as_secs_f64(),
            rate_min: rates().fold(f64::INFINITY, f64::min),
            rate_max: rates().fold(0.0, f64::max),
            cpu_ms_per_container: cpu.times(1000.0 / count as f64),
        })
    }

    /// Returns ours divided by the direct client's, for the same `work` of both, or their `rm -f` against our removal.
    fn ratio(&self, (network, against): (Network, Against), work: Work) -> Option<f64> {
        let ours = match work {
            Work::Create => Work::Create,
            Work::Remove(_) => Work::Remove(Removal::Stop),
        };
        let total = self.total(Arm::Direct(network), work)?;
        let theirs = match against {
            Against::SameBatches => total.rate,
            Against::FastestBatch => {
                let swept = self.sweep[network as usize].iter().map(|point| match work {
                    Work::Create => point.create,
                    Work::Remove(Removal::Stop) => point.stop,
                    Work::Remove(Removal::Force) => point.force,
                });
                swept.fold(total.rate_max, f64::max)
            }
        };
        Some(self.total(Arm::Ours, ours)?.rate / theirs)
    }

    fn to_json(&self) -> Value {
        let sweep = |network: Network| -> Vec<Value> {
            let point = |point: &Point| json!({"concurrency": point.concurrency, "create": point.create, "remove": point.stop, "rm_f": point.force});
            self.sweep[network as usize].iter().map(point).collect()
        };
        let ratios = |against: Against| {
            GOALS.map(|(network, goal)| {
                let ratio = |work: Work| self.ratio((network, against), work);
                json!({
                    "against": network.name(), "goal": goal,
                    "create": ratio(Work::Create),
                    "remove": ratio(Work::Remove(Removal::Stop)),
                    "remove_against_rm_f": ratio(Work::Remove(Removal::Force)),
                })
            })
        };
        let background: Vec<Value> =
            self.background.iter().map(|(arm, cores)| json!({"before": arm.name(), "busy_cores": cores})).collect();
        json!({
            "machine": self.machine,
            "background": background,
            "sweep": {"bridge": sweep(Network::Bridge), "host": sweep(Network::Host)},
            "samples": self.samples.iter().map(|sample| sample.to_json()).collect::<Vec<_>>(),
            "ratios": ratios(Against::SameBatches),
            "ratios_against_fastest_batch": ratios(Against::FastestBatch),
            "starts": self.starts.as_ref().map(|starts| json!({
                "fresh": starts.fresh.iter().map(start_json).collect::<Vec<_>>(),
                "used": starts.used.iter().map(start_json).collect::<Vec<_>>(),
            })),
            "idle": self.idle.map(|idle| json!({"pss_bytes": idle.pss_bytes, "cpu_share": idle.cpu_share})),
        })
    }
}

fn start_json(start: &Start) -> Value {
    json!({"server_json_ms": ms(start.server_json), "readyz_ms": ms(start.ready)})
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let seconds = Duration::from_secs_f64;
        let mut report = Report::new(json!({"run": "bench-1"}));
        let (bridge, host) = (Arm::Direct(Network::Bridge), Arm::Direct(Network::Host));
        for (arm, create, remove) in [(bridge, 20.0, 10.0), (host, 10.0, 5.0), (Arm::Ours, 12.5, 8.0)] {
            report.samples.push(Sample::create(arm, 200, seconds(create), Cpu::default()));
            report.samples.push(Sample::remove(arm, Removal::Stop, 200, (seconds(remove), Cpu::default())));
        }
        report
    }

    #[test]
    fn ratios_compare_like_with_like() {
        let report = report();
        let (bridge, host) = ((Network::Bridge, Against::SameBatches), (Network::Host, Against::SameBatches));
        assert_eq!(report.ratio(bridge, Work::Create), Some(1.6));
        assert_eq!(report.ratio(host, Work::Create), Some(0.8));
        assert_eq!(report.ratio(host, Work::Remove(Removal::Stop)), Some(0.625));
        assert_eq!(report.ratio(host, Work::Remove(Removal::Force)), None, "it was not measured");
    }

    #[test]
    fn the_fastest_batch_may_be_one_of_the_sweep() {
        let mut report = report();
        let fastest = (Network::Bridge, Against::FastestBatch);
        assert_eq!(report.ratio(fastest, Work::Create), Some(1.6), "10 a second was its only batch");
        report.sweep[Network::Bridge as usize] = vec![Point { concurrency: 4, create: 12.8, stop: 1.0, force: 1.0 }];
        assert_eq!(report.ratio(fastest, Work::Create), Some(1.25));
        assert_eq!(report.ratio(fastest, Work::Remove(Removal::Stop)), Some(1.25), "its batch of 200 was faster");
    }

    #[test]
    fn rates_of_several_batches_are_all_containers_over_all_the_time() {
        let mut report = report();
        report.samples.push(Sample::create(Arm::Ours, 200, Duration::from_secs_f64(37.5), Cpu::default()));
        let total = report.total(Arm::Ours, Work::Create).expect("two batches");
        assert_eq!((total.rate, total.rate_min.round(), total.rate_max), (8.0, 5.0, 16.0));
    }

    #[test]
    fn a_report_without_our_arm_says_so_and_claims_no_ratio() {
        let mut report = report();
        report.samples.retain(|sample| sample.arm != Arm::Ours);
        assert!(report.table().contains("not measured"));
        assert!(report.to_json()["ratios"][0]["create"].is_null());
    }
}
