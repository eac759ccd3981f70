//! The table for people.

use std::fmt::Write as _;

use super::{Against, Arm, GOALS, Report, Total, Work, ms};
use crate::{
    peer::{Network, Removal},
    plane::Start,
};

const WORKS: [Work; 3] = [Work::Create, Work::Remove(Removal::Stop), Work::Remove(Removal::Force)];
const ARMS: [Arm; 3] = [Arm::Direct(Network::Bridge), Arm::Direct(Network::Host), Arm::Ours];
const NONE: &str = "not measured";

impl Report {
    /// Renders all that was measured; what was not is named.
    pub(super) fn table(&self) -> String {
        [self.machine_lines(), self.sweep_lines(), self.arm_lines(), self.ratio_lines(), self.plane_lines()].join("\n")
    }

    fn machine_lines(&self) -> String {
        let machine = &self.machine;
        let background: Vec<String> =
            self.background.iter().map(|(arm, cores)| format!("{} {cores:.2}", arm.name())).collect();
        format!(
            "machine   {} cores, kernel {}, engine {} on {}, cgroup v{}, fdatasync {} us, load average {}\n\
             setting   {} containers of {} with {}, grace {} s, repeat {}\n\
             others    busy cores just before each arm: {}\n",
            machine["cores"],
            text(&machine["kernel"]),
            text(&machine["engine"]),
            text(&machine["storage_driver"]),
            text(&machine["cgroup_version"]),
            machine["fdatasync_p50_us"],
            text(&machine["load_average"]),
            machine["replicas"],
            text(&machine["image"]),
            text(&machine["env"]),
            machine["grace_secs"],
            machine["repeat"],
            background.join(", "),
        )
    }

    fn sweep_lines(&self) -> String {
        let mut lines = format!(
            "direct client, containers/s in batches of {}\n\
             in flight       bridge: create  remove   rm -f        host: create  remove   rm -f\n",
            self.machine["sweep_count"],
        );
        let [bridge, host] = &self.sweep;
        for (bridge, host) in bridge.iter().zip(host) {
            let _ = writeln!(
                lines,
                "{:9}               {:7.1} {:7.1} {:7.1}              {:7.1} {:7.1} {:7.1}",
                bridge.concurrency, bridge.create, bridge.stop, bridge.force, host.create, host.stop, host.force,
            );
        }
        if let Some([bridge, host]) = self.best {
            let _ = writeln!(
                lines,
                "best at                 {:7} {:7} {:7}              {:7} {:7} {:7}",
                bridge.create, bridge.stop, bridge.force, host.create, host.stop, host.force,
            );
        }
        lines
    }

    fn arm_lines(&self) -> String {
        let mut lines = "arm             work      containers/s   (slowest-fastest)   CPU ms a container: machine  client  drover\n".to_owned();
        for arm in ARMS {
            for work in WORKS {
                // Ours has one way to remove.
                if (arm, work) == (Arm::Ours, Work::Remove(Removal::Force)) {
                    continue;
                }
                let name = (arm.name(), work.name());
                let _ = writeln!(lines, "{}", total_line(name, self.total(arm, work)));
            }
        }
        lines
    }

    fn ratio_lines(&self) -> String {
        let mut lines = "drover up / direct client       create   remove   remove against rm -f     goal\n".to_owned();
        for (against, note) in [(Against::SameBatches, ""), (Against::FastestBatch, ", fastest batch")] {
            for (network, goal) in GOALS {
                let [create, remove, force] = WORKS.map(|work| match self.ratio((network, against), work) {
                    Some(ratio) => format!("{ratio:.2}"),
                    None => "-".to_owned(),
                });
                let name = format!("{}{note}", network.name());
                let _ = writeln!(lines, "{name:28} {create:>9} {remove:>8} {force:>22} {goal:>8.1}");
            }
        }
        lines
    }

    fn plane_lines(&self) -> String {
        let starts = match &self.starts {
            Some(starts) => {
                format!("\n  fresh   {}\n  used    {}", start_line(&starts.fresh), start_line(&starts.used))
            }
            None => NONE.to_owned(),
        };
        let idle = match self.idle {
            Some(idle) => {
                let mib = idle.pss_bytes as f64 / f64::from(1 << 20);
                format!("PSS {mib:.1} MiB, CPU {:.2} % of one core", idle.cpu_share * 100.0)
            }
            None => NONE.to_owned(),
        };
        format!("API ready, median (fastest-slowest): {starts}\nidle      {idle}\n")
    }
}

fn total_line((arm, work): (String, &str), total: Option<Total>) -> String {
    let Some(total) = total else { return format!("{arm:15} {work:8} {NONE:>13}") };
    let cpu = total.cpu_ms_per_container;
    format!(
        "{arm:15} {work:8} {:13.1}   {:>17} {:28.1} {:7.1} {:7.1}",
        total.rate,
        format!("({:.1}-{:.1})", total.rate_min, total.rate_max),
        cpu.machine,
        cpu.client,
        cpu.plane,
    )
}

fn start_line(starts: &[Start]) -> String {
    let spread = |of: fn(&Start) -> f64| {
        let mut times: Vec<f64> = starts.iter().map(of).collect();
        times.sort_unstable_by(f64::total_cmp);
        match (times.first(), times.get(times.len() / 2), times.last()) {
            (Some(first), Some(median), Some(last)) => format!("{median:.1} ms ({first:.1}-{last:.1})"),
            _ => NONE.to_owned(),
        }
    };
    format!("server.json {}, /readyz {}", spread(|start| ms(start.server_json)), spread(|start| ms(start.ready)))
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}
