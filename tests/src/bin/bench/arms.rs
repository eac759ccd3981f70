//! The order of everything: the sweep, then the arms in turn, ours with its idle time at the end, then the starts.
//!
//! `drover up` runs only during its own arm, so that its agent never looks at the peer's containers.

use anyhow::{Context, Result};

use crate::{
    engine::Engine,
    machine,
    options::Options,
    ours::Ours,
    peer::{self, Best, Network, Removal},
    plane::{Home, Plane},
    report::{Arm, Report, Sample},
    startup,
    usage::Cpu,
};

/// Batches of all replicas that an arm creates and removes each time it is its turn. The direct client stops the first
/// and forces the second; ours are removed gracefully both times.
const ROUNDS: [Removal; 2] = [Removal::Stop, Removal::Force];

/// Runs everything; what has been measured is in the report even when a later part fails.
///
/// # Errors
/// When a part fails.
pub(crate) async fn run(options: &Options, engine: &Engine, report: &mut Report) -> Result<()> {
    // Before the minutes of the sweep: this is what can be missing.
    let home = if options.peer_only { None } else { Some(Home::new(options, engine)?) };
    let best = sweep(options, engine, report).await?;
    let mut arms = vec![Arm::Direct(Network::Bridge), Arm::Ours, Arm::Direct(Network::Host)];
    arms.retain(|arm| *arm != Arm::Ours || home.is_some());
    let mut failure = None;
    for repeat in 0..options.repeat {
        for turn in 0..arms.len() {
            // Each repeat begins with another arm, so that none is always the first or the last.
            let arm = arms[(repeat + turn) % arms.len()];
            let background = machine::background_cores().await?;
            report.background(arm, background);
            match (arm, &home) {
                (Arm::Direct(network), _) => direct(options, engine, report, (network, best[network as usize])).await?,
                (Arm::Ours, Some(home)) if failure.is_none() => {
                    // The peer's figures are worth having even then.
                    failure = ours(options, engine, report, (home, repeat + 1 == options.repeat)).await.err();
                }
                (Arm::Ours, _) => {} // It failed before, or has been left out of the arms.
            }
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let Some(home) = home else { return Ok(()) };
    drop(home);
    report.starts = Some(startup::measure_starts(options, engine).await.context("starts")?);
    Ok(())
}

/// Tries every concurrency on both networks in turn.
async fn sweep(options: &Options, engine: &Engine, report: &mut Report) -> Result<[Best; 2]> {
    for concurrency in &options.sweep {
        for network in Network::ALL {
            let point = peer::measure(engine, options, network, *concurrency).await.context("sweep")?;
            eprintln!("sweep: {} {point:.1?}", network.name());
            report.sweep[network as usize].push(point);
        }
    }
    let best = |network: Network| peer::best(&report.sweep[network as usize]).context("the sweep is not empty");
    let found = [best(Network::Bridge)?, best(Network::Host)?];
    report.best = Some(found);
    Ok(found)
}

async fn direct(
    options: &Options,
    engine: &Engine,
    report: &mut Report,
    (network, best): (Network, Best),
) -> Result<()> {
    let arm = Arm::Direct(network);
    for removal in ROUNDS {
        let meter = Meter::start(None)?;
        let took = peer::create(engine, options, network, options.replicas, best.create).await?;
        meter.record(report, |cpu| Sample::create(arm, options.replicas, took, cpu))?;
        let concurrency = match removal {
            Removal::Stop => best.stop,
            Removal::Force => best.force,
        };
        let meter = Meter::start(None)?;
        let took = peer::remove(engine, options, removal, concurrency).await?;
        meter.record(report, |cpu| Sample::remove(arm, removal, options.replicas, (took, cpu)))?;
    }
    Ok(())
}

async fn ours(options: &Options, engine: &Engine, report: &mut Report, (home, is_last): (&Home, bool)) -> Result<()> {
    let (plane, _) = home.start().await.context("drover up")?;
    let measured = ours_on(options, engine, report, &plane).await;
    measured.with_context(|| format!("drover up; the end of its log:\n{}", plane.log_end()))?;
    if is_last {
        // In the process that has done the work: an idle server that never worked would be flattered.
        report.idle = Some(startup::measure_idle(options, &plane).await.context("idle")?);
    }
    plane.stop().await
}

async fn ours_on(options: &Options, engine: &Engine, report: &mut Report, plane: &Plane) -> Result<()> {
    let mut ours = Ours::new(engine, options, plane).await?;
    // The direct client has been through its sweep by now: so much warm-up for ours too.
    ours.create(options.sweep_count).await.context("warm-up")?;
    ours.remove().await.context("warm-up")?;
    let pid = Some(plane.pid()?);
    for _ in ROUNDS {
        let meter = Meter::start(pid)?;
        let took = ours.create(options.replicas).await?;
        meter.record(report, |cpu| Sample::create(Arm::Ours, options.replicas, took, cpu))?;
        let meter = Meter::start(pid)?;
        let took = ours.remove().await?;
        meter.record(report, |cpu| Sample::remove(Arm::Ours, Removal::Stop, options.replicas, (took, cpu)))?;
    }
    Ok(())
}

/// CPU seconds around one measured batch.
struct Meter {
    plane: Option<u32>,
    before: Cpu,
}

impl Meter {
    fn start(plane: Option<u32>) -> Result<Self> {
        Ok(Self { plane, before: Cpu::now(plane)? })
    }

    fn record(self, report: &mut Report, sample: impl FnOnce(Cpu) -> Sample) -> Result<()> {
        let sample = sample(Cpu::now(self.plane)?.since(self.before));
        eprintln!("{}", sample.line());
        report.samples.push(sample);
        Ok(())
    }
}
