//! `sim`: plays many seeds and says what broke. See `make sim`.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use drover_sim::{Depth, Outcome, Schedule, faults::Tally, play, shrink};

/// As in `drover`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Plays seeds against a simulated cluster; ends with 1 when any of them breaks an invariant.
#[derive(Debug, Parser)]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value = "0", value_parser = number)]
    first: u64,
    /// Play this one seed alone, and print its schedule.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// Drive the whole stack: HTTP/2, TLS, and the embedded store on a disk that crashes tear.
    #[arg(long)]
    full: bool,
    /// Threads, one seed each at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Do not shorten failing schedules.
    #[arg(long)]
    no_shrink: bool,
    /// Go on after so many failing seeds.
    #[arg(long, default_value_t = 3)]
    failures_max: usize,
}

impl Options {
    fn depth(&self) -> Depth {
        if self.full { Depth::Full } else { Depth::Core }
    }
}

/// Reads a seed, decimal or with `0x`.
fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// What all threads found.
#[derive(Default)]
struct Findings {
    tally: Tally,
    failures: Vec<(Schedule, Outcome)>,
    played: u64,
    virtual_ms: u64,
    writes: u64,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    let options = Options::parse();
    let (first, seeds) = options.seed.map_or((options.first, options.seeds), |seed| (seed, 1));
    let started = Instant::now();
    let findings = play_all(&options, first, seeds);
    report(&findings, started.elapsed().as_secs_f64(), &options);
    for (schedule, outcome) in &findings.failures {
        tell(schedule, outcome, &options);
    }
    if findings.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play_all(options: &Options, first: u64, seeds: u64) -> Findings {
    let (next, findings) = (AtomicU64::new(first), Mutex::new(Findings::default()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = lock(&findings).failures.len() >= options.failures_max;
                    if seed >= first + seeds || enough {
                        return;
                    }
                    let schedule = Schedule::of_seed(seed);
                    let outcome = play(&schedule, options.depth());
                    let mut findings = lock(&findings);
                    findings.tally.add(&outcome.tally);
                    findings.played += 1;
                    findings.virtual_ms += outcome.elapsed_ms;
                    findings.writes += outcome.writes;
                    if !outcome.violations.is_empty() {
                        findings.failures.push((schedule, outcome));
                    }
                }
            });
        }
    });
    findings.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::print_stdout, reason = "a command-line tool")]
fn report(findings: &Findings, secs: f64, options: &Options) {
    println!("{}", findings.tally);
    for (kind, phase) in findings.tally.missed() {
        println!("never struck: {kind} in {phase}");
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = findings.played as f64 / secs / options.jobs as f64;
    println!(
        "{} seeds, {} faults, {} failed; {} virtual hours, {} writes; {secs:.1} s, {rate:.1} seeds a second a core",
        findings.played,
        findings.tally.total(),
        findings.failures.len(),
        findings.virtual_ms / 3_600_000,
        findings.writes,
    );
}

#[expect(clippy::print_stdout, reason = "a command-line tool")]
fn tell(schedule: &Schedule, outcome: &Outcome, options: &Options) {
    println!("\nFAILED {schedule}");
    outcome.violations.iter().for_each(|violation| println!("  {violation}"));
    println!("{}", outcome.dump);
    if options.no_shrink {
        return;
    }
    let (short, outcome) = shrink(schedule, options.depth(), outcome.clone());
    println!("\nSHORTENED {short}");
    outcome.violations.iter().for_each(|violation| println!("  {violation}"));
    let target = if options.full { "sim-full" } else { "sim" };
    println!("replay: make {target} SEED={:#x}", schedule.seed);
}

fn lock(findings: &Mutex<Findings>) -> std::sync::MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}
