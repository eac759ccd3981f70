//! One history: clients and watchers on a store that somebody kills, pauses and compacts; then every check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use drover_store::{Backend, Range, Revision};
use futures::future::join_all;

use crate::broken::{Broken, Fault};
use crate::clients::{Client, Shared};
use crate::history::{Call, Recorder, What};
use crate::linear;
use crate::log::Log;
use crate::on_embedded::OnEmbedded;
use crate::on_etcd::{OnEtcd, Server};
use crate::slot::Slot;
use crate::watches::{self, Finish, Habit, Stretch};

/// How a history goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    pub(crate) calls_each: u64,
    /// How often the store is killed or paused.
    pub(crate) troubles: u64,
    /// What is wrong with the store, for the positive control.
    pub(crate) fault: Option<Fault>,
}

impl Plan {
    /// At least 1,000 calls.
    pub(crate) fn of(seed: u64, troubles: u64) -> Self {
        Self { seed, clients: 8, calls_each: 150, troubles, fault: None }
    }

    pub(crate) fn wrap(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        match self.fault {
            Some(fault) => Arc::new(Broken::new(store, fault)),
            None => store,
        }
    }
}

/// A store to run a history on, and who harms it.
#[async_trait]
pub(crate) trait Target: Send {
    /// The store, which comes back by itself or not.
    fn slot(&self) -> Arc<Slot>;

    /// Kills, pauses and mends the store until all troubles are over or `over` is set; leaves it whole. Returns how
    /// often it did.
    async fn trouble(&mut self, over: Arc<AtomicBool>) -> u64;

    /// Whether revisions have no holes.
    fn counts_by_one(&self) -> bool;
}

/// What became of one history, or of many.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) histories: u64,
    pub(crate) calls: u64,
    pub(crate) unanswered: u64,
    pub(crate) revisions: u64,
    pub(crate) troubles: u64,
    pub(crate) stretches: u64,
    pub(crate) deliveries: u64,
    pub(crate) compacted_watches: u64,
    pub(crate) faults: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            histories,
            calls,
            unanswered,
            revisions,
            troubles,
            stretches,
            deliveries,
            compacted_watches,
            faults,
        } = other;
        self.histories += histories;
        self.calls += calls;
        self.unanswered += unanswered;
        self.revisions += revisions;
        self.troubles += troubles;
        self.stretches += stretches;
        self.deliveries += deliveries;
        self.compacted_watches += compacted_watches;
        self.faults.extend(faults);
    }
}

/// Runs a history to its end and checks it.
pub(crate) async fn run(plan: Plan, target: &mut dyn Target) -> Report {
    let slot = target.slot();
    let base = slot.current().1.revision().await.expect("a store before any trouble answers");
    let patience = Duration::from_secs(if plan.fault.is_some() { 1 } else { 30 });
    let finish = Arc::new(Finish::unknown(base, patience));
    let shared = Arc::new(Shared {
        slot: Arc::clone(&slot),
        recorder: Recorder::default(),
        finish: Arc::clone(&finish),
        compacted: AtomicU64::new(0),
    });
    let watchers = habits(plan.seed).into_iter().enumerate();
    let watchers: Vec<_> = watchers
        .map(|(n, habit)| tokio::spawn(watches::follow(Arc::clone(&slot), habit, Arc::clone(&finish), n == 0)))
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let clients = async {
        let clients = (0..plan.clients)
            .map(|n| tokio::spawn(Client::new(Arc::clone(&shared), n, plan.seed).run(plan.calls_each)));
        join_all(clients).await.into_iter().for_each(|client| client.expect("a client does not panic"));
        over.store(true, Ordering::SeqCst);
    };
    let ((), troubles) = tokio::join!(clients, target.trouble(Arc::clone(&over)));
    finish.set(read_the_end(&shared).await);
    let mut stretches = Vec::new();
    for watcher in watchers {
        stretches.push(watcher.await.expect("a watcher does not panic"));
    }
    let compacted = shared.compacted.load(Ordering::SeqCst);
    let mut report = judge(shared.recorder.take(), &stretches, compacted, target.counts_by_one());
    report.troubles = troubles;
    report.faults.iter_mut().for_each(|fault| fault.insert_str(0, &format!("seed {}: ", plan.seed)));
    report
}

/// The first one is never behind and never goes away: what it saw is the log.
fn habits(seed: u64) -> Vec<Habit> {
    let habit = |prefix: &'static str, n: u64, resumes_percent, sleeps_percent| Habit {
        prefix: Bytes::from_static(prefix.as_bytes()),
        seed: seed.wrapping_mul(31).wrapping_add(n),
        resumes_percent,
        sleeps_percent,
    };
    vec![
        habit("/", 0, 0, 0),
        habit("/", 1, 5, 0),
        habit("/even/", 2, 2, 10),
        habit("/odd/", 3, 20, 0),
        habit("/", 4, 3, 60),
        habit("/even/04", 5, 10, 5),
    ]
}

/// A last look at everything, which counts as a call like any other.
async fn read_the_end(shared: &Shared) -> Revision {
    loop {
        let (generation, store) = shared.slot.current();
        let start = shared.recorder.now();
        let range = Range { prefix: Bytes::from_static(b"/"), ..Range::default() };
        match store.range(range.clone()).await {
            Ok(found) => {
                let newest = found.revision;
                shared.recorder.answered(u64::MAX, start, What::Range { range, found });
                return newest;
            }
            Err(_) => shared.slot.recovered(generation).await,
        }
    }
}

fn judge(calls: Vec<Call>, watchers: &[Vec<Stretch>], compacted: Revision, counts_by_one: bool) -> Report {
    let mut faults = Vec::new();
    let first: Vec<_> = watchers[0].iter().flat_map(|stretch| &stretch.items).cloned().collect();
    let log = Log::build(first, &mut faults);
    if counts_by_one {
        let holes = log.changes.windows(2).filter(|pair| pair[1].revision != pair[0].revision + 1);
        faults.extend(holes.map(|pair| format!("log: {} follows {}", pair[1].revision, pair[0].revision)));
    }
    let mut report =
        Report { histories: 1, calls: calls.len() as u64, revisions: log.changes.len() as u64, ..Report::default() };
    report.unanswered = calls.iter().filter(|call| matches!(call.what, What::Unknown { .. })).count() as u64;
    linear::check(calls, &log, compacted, &mut faults);
    for stretch in watchers.iter().flatten() {
        report.stretches += 1;
        report.compacted_watches +=
            u64::from(matches!(&stretch.ended, watches::Ended::By(drover_store::Error::Compacted { .. })));
        report.deliveries += watches::check(stretch, &log, compacted, &mut faults);
    }
    report.faults = faults;
    report
}

/// `histories embedded|etcd N [SEED]`: runs and prints. Returns whether nothing was found.
pub(crate) fn program(backend: &str, arguments: &[&str]) -> Result<bool, Box<dyn std::error::Error>> {
    let count: u64 = arguments.first().ok_or("say how many histories")?.parse()?;
    let first: u64 = arguments.get(1).map_or(Ok(1), |seed| seed.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = std::time::Instant::now();
    let total = runtime.block_on(many(backend, first, count))?;
    println!("{}; {:.0} s", total.text(backend), begun.elapsed().as_secs_f64());
    total.faults.iter().take(10).for_each(|fault| println!("FAULT {fault}"));
    Ok(total.faults.is_empty())
}

/// `controls`: every broken store must be reported. Returns whether all were.
pub(crate) fn controls() -> Result<bool, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut missed = 0;
    for fault in Fault::ALL {
        let plan = Plan { fault: Some(fault), ..Plan::of(7, 0) };
        let report =
            runtime.block_on(async { Ok::<_, drover_store::Error>(run(plan, &mut OnEmbedded::start(plan)?).await) })?;
        missed += usize::from(report.faults.is_empty());
        println!("{fault:?}: {} faults, first: {:?}", report.faults.len(), report.faults.first());
    }
    println!("{} broken stores, {missed} not reported", Fault::ALL.len());
    Ok(missed == 0)
}

async fn many(backend: &str, first: u64, count: u64) -> Result<Report, Box<dyn std::error::Error>> {
    let mut total = Report::default();
    match backend {
        "embedded" => {
            for seed in first..first + count {
                let plan = Plan::of(seed, seed % 4);
                total.add(run(plan, &mut OnEmbedded::start(plan)?).await);
            }
        }
        "etcd" => {
            let mut server = Server::start()?.ok_or("no etcd on the PATH and no DROVER_ETCD")?;
            for seed in first..first + count {
                let plan = Plan::of(seed, 1 + seed % 3);
                total.add(run(plan, &mut OnEtcd::start(&mut server, plan).await?).await);
            }
        }
        other => return Err(format!("no backend {other}: embedded or etcd").into()),
    }
    Ok(total)
}

impl Report {
    fn text(&self, backend: &str) -> String {
        format!(
            "{backend}: {} histories of {} calls ({} unanswered), {} revisions, {} kills or pauses; \
             {} watches ({} told of a compaction) with {} deliveries; {} faults",
            self.histories,
            self.calls,
            self.unanswered,
            self.revisions,
            self.troubles,
            self.stretches,
            self.compacted_watches,
            self.deliveries,
            self.faults.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn on_embedded(plan: Plan) -> Report {
        run(plan, &mut OnEmbedded::start(plan).unwrap()).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn histories_of_the_embedded_store_across_power_losses_are_linearizable_and_every_watch_is_whole() {
        let mut total = Report::default();
        for seed in 0..12 {
            total.add(on_embedded(Plan::of(seed, seed % 4)).await);
        }
        println!("{}", total.text("embedded"));
        assert_eq!(total.faults, Vec::<String>::new());
        assert!(total.troubles > 3 && total.compacted_watches > 0, "{}", total.text("embedded"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn histories_of_an_etcd_that_is_killed_and_paused_are_linearizable_and_every_watch_is_whole() {
        let Some(mut server) = Server::start().unwrap() else {
            eprintln!("SKIPPED: no etcd on the PATH and no DROVER_ETCD; install the package etcd-server");
            return;
        };
        let plan = Plan { calls_each: 60, ..Plan::of(5, 2) };
        let report = run(plan, &mut OnEtcd::start(&mut server, plan).await.unwrap()).await;
        println!("{}", report.text("etcd"));
        assert_eq!(report.faults, Vec::<String>::new());
    }

    #[test]
    fn every_deliberately_broken_store_is_reported() {
        assert!(controls().unwrap());
    }
}
