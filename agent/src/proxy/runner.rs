//! Keeps the kernel's table as the informers demand it, and says up to which revision it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    conntrack::{self, FlowTarget},
    desired::{ProxyConfig, ProxyInput},
    diff::{diff, left_over, sweep},
    nft::{self, NftError},
    plan::{Plan, Touched},
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
    let mut plan = Plan::default();
    let mut fresh = input.borrow_and_update().clone();
    // What the kernel may not have yet, and the revision up to which it then is what the objects say.
    let mut pending: Option<Touched> = None;
    let mut planned = None;
    loop {
        let mut pause = WATCH;
        if let Some(input) = fresh.take() {
            planned = Some(input.revision);
            plan.update(input, &config, pending.get_or_insert_default());
        }
        if let Some(revision) = planned {
            let outcome = step(&config, &plan, pending.as_ref(), &mut known, &mut next_reading).await;
            if outcome.is_ok() {
                pending = None;
                acknowledged.send_if_modified(|acknowledged| raise(acknowledged, revision));
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
                    fresh = input.borrow_and_update().clone();
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

/// Brings the kernel to where the plan wants it. Costs one question to the kernel when nothing is pending and nobody else
/// has changed rules.
async fn step(
    config: &ProxyConfig,
    plan: &Plan,
    pending: Option<&Touched>,
    known: &mut Option<Known>,
    next_reading: &mut Instant,
) -> Result<(), NftError> {
    let generation = nft::generation()?;
    let foreign = known.as_ref().is_none_or(|known| known.generation != generation);
    let reading = known.is_none() || (foreign && Instant::now() >= *next_reading);
    if reading {
        let started = Instant::now();
        let observed = nft::list(&config.table).await?;
        *next_reading = Instant::now() + started.elapsed() * READING_SHARE;
        let left = known.take().map(|known| known.left).unwrap_or_default();
        *known = Some(Known { observed, generation, left });
    }
    let Some(known) = known else { return Ok(()) };
    if reading {
        let observed = known.observed.clone();
        known.bring(&observed, plan.tables(), config).await?;
    } else if let Some(touched) = pending {
        let (current, wanted) = plan.restricted(touched, &known.observed);
        known.bring(&current, &wanted, config).await?;
    }
    if let Some(touched) = pending {
        forget_flows(plan.forgotten(touched)).await;
    }
    Ok(())
}

/// Removes what has been left over for long enough.
async fn tidy(config: &ProxyConfig, known: &mut Option<Known>) -> Result<(), NftError> {
    let Some(known) = known else { return Ok(()) };
    let due = known.left.iter().filter(|(_, since)| since.elapsed() >= LINGER);
    let due: BTreeSet<String> = due.map(|(name, _)| name.clone()).collect();
    if due.is_empty() {
        return Ok(());
    }
    known.apply(&sweep(&known.observed, &due, &config.table), &config.table).await?;
    known.left.retain(|name, _| !due.contains(name));
    known.observed.forget(&due);
    Ok(())
}

impl Known {
    /// Brings a part of the kernel's table, or all of it, to what is wanted of that part.
    async fn bring(&mut self, current: &Observed, wanted: &Tables, config: &ProxyConfig) -> Result<(), NftError> {
        let change = diff(current, wanted, &config.table);
        for commands in [&change.declare, &change.prepare, &change.switch] {
            self.apply(commands, &config.table).await?;
        }
        let (left, now) = (left_over(current, wanted), Instant::now());
        self.observed.replace(current, wanted.observed().with(current, &left));
        let Observed { chains, affinity, .. } = &self.observed;
        let is_wanted = |name: &String| wanted.chains.contains_key(name) || wanted.affinity.contains_key(name);
        self.left.retain(|name, _| (chains.contains_key(name) || affinity.contains(name)) && !is_wanted(name));
        for name in left {
            self.left.entry(name).or_insert(now);
        }
        Ok(())
    }

    async fn apply(&mut self, commands: &[String], table: &str) -> Result<(), NftError> {
        if !commands.is_empty() {
            nft::apply(commands, table).await?;
            // Ours counts one; when others changed rules in between, the next look reads the table.
            self.generation = self.generation.wrapping_add(1);
        }
        Ok(())
    }
}

async fn forget_flows(gone: BTreeSet<FlowTarget>) {
    let (udp, tcp) = gone.into_iter().partition(|target| target.protocol == "udp");
    // Nobody waits for those: they only spare a client some of its tries.
    tokio::spawn(conntrack::forget(tcp));
    conntrack::forget(udp).await;
}
