//! Keeps the kernel's table as the informers demand it, and says up to which revision it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    conntrack::{self, FlowTarget},
    desired::{ProxyConfig, ProxyInput, desired},
    diff::{diff, left_over, sweep},
    nft::{self, NftError},
    tables::{Observed, Tables},
};

/// How often the generation of the rule set is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// After a failure the table is read and tried again at this pace.
const RETRY: Duration = Duration::from_millis(500);

/// Reading a large table costs seconds; on a host where others change rules all the time it may take this share at most.
const READING_SHARE: u32 = 10;

/// How long what nothing leads to any more is left to the packets that are on their way through it. Their way takes
/// microseconds, unless the hypervisor has taken the core away meanwhile.
const LINGER: Duration = Duration::from_secs(1);

/// What is known of the kernel.
struct Known {
    observed: Observed,
    generation: u32,
    /// Chains and sets that nothing leads to, with when that was first seen.
    left: BTreeMap<String, Instant>,
    targets: BTreeSet<FlowTarget>,
}

/// Applies every input until `stop`, repairs what others break, and publishes the applied revision. The input is `None`
/// until the informers have synced: before that the table of an earlier agent stays as it is. At the end the table stays.
pub async fn run(
    config: ProxyConfig,
    mut input: watch::Receiver<Option<ProxyInput>>,
    acknowledged: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let mut known = None;
    let mut next_reading = Instant::now();
    let mut pending = true;
    let mut present = input.borrow_and_update().clone();
    loop {
        let mut pause = WATCH;
        if let Some(present) = &present {
            let outcome = step(&config, present, pending, &mut known, &mut next_reading).await;
            pending = outcome.is_err();
            if outcome.is_ok() {
                acknowledged.send_if_modified(|revision| raise(revision, present.revision));
            }
            let outcome = match outcome {
                Ok(()) => tidy(&config, &mut known).await,
                failed => failed,
            };
            if let Err(error) = outcome {
                tracing::warn!(proxy.table = config.table, "service proxy cannot update its table: {error}");
                known = None;
                pause = RETRY;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // Cancel-safe: a change that is not taken here is still there in the next round.
            changed = input.changed() => match changed {
                Ok(()) => {
                    present = input.borrow_and_update().clone();
                    pending = true;
                }
                Err(_closed) => return stop.cancelled().await,
            },
            () = sleep(pause) => {}
        }
    }
}

/// Raises an acknowledged revision; it never falls.
pub(crate) fn raise(revision: &mut u64, to: u64) -> bool {
    let higher = to > *revision;
    *revision = to.max(*revision);
    higher
}

/// Brings the kernel to where `input` wants it. Costs one question to the kernel when neither has changed.
async fn step(
    config: &ProxyConfig,
    input: &ProxyInput,
    pending: bool,
    known: &mut Option<Known>,
    next_reading: &mut Instant,
) -> Result<(), NftError> {
    let generation = nft::generation()?;
    let foreign = known.as_ref().is_none_or(|known| known.generation != generation);
    let reading = known.is_none() || (foreign && Instant::now() >= *next_reading);
    if !reading && !pending {
        return Ok(());
    }
    if reading {
        let started = Instant::now();
        let observed = nft::list(&config.table).await?;
        *next_reading = Instant::now() + started.elapsed() * READING_SHARE;
        let (left, targets) = known.take().map(|known| (known.left, known.targets)).unwrap_or_default();
        *known = Some(Known { observed, generation, left, targets });
    }
    let Some(known) = known else { return Ok(()) };
    let tables = desired(input, config);
    let change = diff(&known.observed, &tables, &config.table);
    known.apply(&change.prepare).await?;
    known.apply(&change.switch).await?;
    let (left, now) = (left_over(&known.observed, &tables), Instant::now());
    known.observed = tables.observed().with(&known.observed, &left);
    known.left.retain(|name, _| left.contains(name));
    for name in left {
        known.left.entry(name).or_insert(now);
    }
    forget_flows(known, tables).await;
    Ok(())
}

/// Removes what has been left over for long enough.
async fn tidy(config: &ProxyConfig, known: &mut Option<Known>) -> Result<(), NftError> {
    let Some(known) = known else { return Ok(()) };
    let due = known.left.iter().filter(|(_, since)| since.elapsed() >= LINGER);
    let due: BTreeSet<String> = due.map(|(name, _)| name.clone()).collect();
    known.apply(&sweep(&known.observed, &due, &config.table)).await?;
    known.left.retain(|name, _| !due.contains(name));
    known.observed.forget(&due);
    Ok(())
}

impl Known {
    async fn apply(&mut self, commands: &[String]) -> Result<(), NftError> {
        if !commands.is_empty() {
            nft::apply(commands).await?;
            // Ours counts one; when others changed rules in between, the next look reads the table.
            self.generation = self.generation.wrapping_add(1);
        }
        Ok(())
    }
}

async fn forget_flows(known: &mut Known, tables: Tables) {
    let gone = known.targets.difference(&tables.targets).copied();
    let (udp, tcp) = gone.partition(|target| target.protocol == "udp");
    known.targets = tables.targets;
    // Nobody waits for those: they only spare a client some of its tries.
    tokio::spawn(conntrack::forget(tcp));
    conntrack::forget(udp).await;
}
