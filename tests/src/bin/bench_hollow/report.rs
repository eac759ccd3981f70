//! The figures: medians over the rounds, with the extremes.

use std::{collections::BTreeMap, fmt, fs, time::Duration};

use anyhow::Result;
use drover_tests::{Store, fdatasync_p50_us};
use serde_json::{Value, json};

use crate::{options::Options, processes::Cpu};

/// One measured span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// From just before the request to the event that ended it.
    pub(crate) took: Duration,
    /// CPU meanwhile.
    pub(crate) cpu: Cpu,
}

/// Takes one span out of a round.
type SpanOf = fn(&Round) -> Span;

/// One round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// To the last Running.
    pub(crate) apply: Span,
    /// To the last Ready.
    pub(crate) apply_ready: Duration,
    /// To all new Running and Ready and all old gone.
    pub(crate) roll: Span,
    /// To the last pod gone.
    pub(crate) delete: Span,
    /// The fewest Ready pods during the roll.
    pub(crate) ready_min: usize,
    /// The most pods at once during the roll.
    pub(crate) alive_max: usize,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |span: &Span| {
            let Cpu { server, hollow, etcd, watcher } = span.cpu;
            format!(
                "{:.2?} (cpu s: server {server:.2} hollow {hollow:.2} etcd {etcd:.2} watcher {watcher:.2})",
                span.took
            )
        };
        write!(f, "apply {}, ready {:.2?}, roll {}", span(&self.apply), self.apply_ready, span(&self.roll))?;
        write!(f, " ready>={} alive<={}, delete {}", self.ready_min, self.alive_max, span(&self.delete))
    }
}

/// Everything that is printed at the end.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Value,
    replicas: f64,
    nodes: f64,
    stores: BTreeMap<String, Figures>,
}

#[derive(Debug, Default)]
struct Figures {
    joined: Duration,
    rounds: Vec<Round>,
    resident_bytes: (u64, u64),
}

impl Report {
    /// Describes machine and settings.
    ///
    /// # Errors
    /// When `/proc` or a temporary file cannot be used.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let load = fs::read_to_string("/proc/loadavg")?;
        let machine = json!({
            "cores": std::thread::available_parallelism()?.get(),
            "load_average": load.split_whitespace().next(),
            "fdatasync_p50_us": fdatasync_p50_us()?,
            "replicas": options.replicas, "nodes": options.nodes, "repeat": options.repeat,
            "tokens": options.tokens, "service": options.service,
        });
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (replicas, nodes) = (options.replicas as f64, options.nodes as f64);
        Ok(Self { machine, replicas, nodes, stores: BTreeMap::new() })
    }

    /// Notes how long the nodes took from the fleet's start until all were Ready.
    pub(crate) fn note_joined(&mut self, store: Store, joined: Duration) {
        self.figures(store).joined = joined;
    }

    /// Notes the resident memory of server and fleet at the end.
    pub(crate) fn note_memory(&mut self, store: Store, resident_bytes: (u64, u64)) {
        self.figures(store).resident_bytes = resident_bytes;
    }

    /// Enters a round.
    pub(crate) fn add(&mut self, store: Store, round: Round) {
        self.figures(store).rounds.push(round);
    }

    fn figures(&mut self, store: Store) -> &mut Figures {
        self.stores.entry(format!("{store:?}").to_lowercase()).or_default()
    }

    /// Prints the table and the JSON line.
    #[expect(clippy::print_stdout, reason = "the report")]
    pub(crate) fn print(&self) {
        println!("{}", self.machine);
        println!(
            "store     | what                 | median s (fastest-slowest) | pods/s | CPU ms a pod: server, nodes, etcd, watcher"
        );
        let mut all = json!({"machine": self.machine});
        for (store, figures) in self.stores.iter().filter(|(_, figures)| !figures.rounds.is_empty()) {
            let spans: [(&str, SpanOf); 4] = [
                ("apply to last Running", |round| round.apply),
                ("apply to last Ready", |round| Span { took: round.apply_ready, cpu: Cpu::default() }),
                ("roll", |round| round.roll),
                ("delete to last gone", |round| round.delete),
            ];
            for (what, span) in spans {
                let line = self.line(&figures.rounds, span);
                println!("{store:<9} | {what:<21} | {}", line.0);
                all[store.as_str()][what] = line.1;
            }
            let (server, hollow) = figures.resident_bytes;
            #[expect(clippy::cast_precision_loss, reason = "megabytes")]
            let (server, hollow) = (server as f64 / 1e6, hollow as f64 / 1e6);
            let joined = figures.joined.as_secs_f64();
            println!(
                "{store:<9} | joined in {joined:.2} s; resident: server {server:.0} MB, nodes {hollow:.0} MB = {:.2} MB a node",
                hollow / self.nodes
            );
            all[store.as_str()]["joined_s"] = json!(joined);
            all[store.as_str()]["resident_mb"] = json!({"server": server, "nodes": hollow});
        }
        println!("{all}");
    }

    fn line(&self, rounds: &[Round], span: SpanOf) -> (String, Value) {
        let seconds = sorted(rounds.iter().map(|round| span(round).took.as_secs_f64()));
        let cpu = |part: fn(&Cpu) -> f64| {
            median(&sorted(rounds.iter().map(|round| part(&span(round).cpu)))) * 1000.0 / self.replicas
        };
        let (mid, low, high) = (median(&seconds), seconds.first(), seconds.last());
        let (low, high) = (low.copied().unwrap_or(mid), high.copied().unwrap_or(mid));
        let parts = [cpu(|cpu| cpu.server), cpu(|cpu| cpu.hollow), cpu(|cpu| cpu.etcd), cpu(|cpu| cpu.watcher)];
        let text = format!(
            "{mid:>7.2} ({low:.2}-{high:.2})        | {:>6.0} | {:.2} {:.2} {:.2} {:.2}",
            self.replicas / mid,
            parts[0],
            parts[1],
            parts[2],
            parts[3]
        );
        (text, json!({"median_s": mid, "all_s": seconds, "cpu_ms_a_pod": parts}))
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
