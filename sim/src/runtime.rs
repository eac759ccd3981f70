//! One thread, virtual time, one seed: where a simulation runs.

use std::future::Future;

use tokio::runtime::{Builder, RngSeed};

/// Stack of a simulation's thread: debug builds of deep planners need more than a thread's usual 2 MiB.
const STACK_BYTES: usize = 16 << 20;

/// Runs `simulation` on a thread of its own under paused time; the same seed gives the same run.
///
/// # Panics
/// When the thread or its runtime cannot be made, and when the simulation panics.
pub fn run_seeded<T, F>(seed: u64, simulation: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let body = move || {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
            .build()
            .expect("a runtime without I/O takes no resources that could be missing");
        runtime.block_on(simulation())
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(body).expect("a thread can be made");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
