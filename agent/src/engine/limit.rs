//! How many calls of a kind may be in flight at an engine: grown while it keeps up, halved when it does not.
//!
//! Additive increase, multiplicative decrease around a start of 8, where one engine on two cores is fastest
//! (performance.md). The measure of not keeping up is a time-out or a latency far above the best seen.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Bounds of the window.
const WINDOW_MIN: f64 = 2.0;
const WINDOW_MAX: f64 = 32.0;
/// A call this many times slower than the recent best says that the window is too wide.
const SLOW_FACTOR: f64 = 12.0;
/// No shrinking below this latency: short calls jitter.
const SLOW_FLOOR: Duration = Duration::from_secs(4);

/// An adaptive limit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    window: f64,
    in_flight: usize,
    best: Option<Duration>,
    shrunk_at: Option<Instant>,
}

/// The right to one call. Say how it went with [`Permit::done`]; dropping it counts as neither.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    started: Instant,
}

impl Limiter {
    /// A limiter whose window begins at `start`.
    pub fn new(start: u32) -> Self {
        let state = State { window: f64::from(start), in_flight: 0, best: None, shrunk_at: None };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), freed: Notify::new() }) }
    }

    /// Waits for a place in the window.
    pub async fn acquire(&self) -> Permit {
        loop {
            let freed = self.inner.freed.notified();
            {
                let mut state = self.inner.lock();
                let window = if drover_api::mutants::active("N02-one-call-at-a-time") { 1.0 } else { state.window };
                if (state.in_flight as f64) < window.floor() {
                    state.in_flight += 1;
                    return Permit { inner: Arc::clone(&self.inner), started: Instant::now() };
                }
            }
            freed.await;
        }
    }

    /// The present window.
    pub fn window(&self) -> usize {
        self.inner.lock().window as usize
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Ends the call: `kept_up` is false when the engine timed out or was out of reach.
    pub fn done(self, kept_up: bool) {
        let now = Instant::now();
        let latency = now - self.started;
        let mut state = self.inner.lock();
        adapt(&mut state, latency, kept_up, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.lock().in_flight -= 1;
        self.inner.freed.notify_one();
    }
}

fn adapt(state: &mut State, latency: Duration, kept_up: bool, now: Instant) {
    let best = state.best.map_or(latency, |best| best.min(latency));
    // The best fades, so that an engine that became slower for good is not throttled for ever.
    state.best = Some(best.mul_f64(1.01));
    let slow = latency > SLOW_FLOOR && latency.as_secs_f64() > best.as_secs_f64() * SLOW_FACTOR;
    if kept_up && !slow {
        let busy = state.in_flight as f64 >= state.window.floor();
        if busy && latency < SLOW_FLOOR {
            state.window = (state.window + 0.1 / state.window).min(WINDOW_MAX);
        }
        return;
    }
    // One bad spell fails many calls at once; it halves the window once.
    if state.shrunk_at.is_none_or(|at| now.saturating_duration_since(at) > latency) {
        state.window = (state.window / 2.0).max(WINDOW_MIN);
        state.shrunk_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_window_of_calls_runs_at_once() {
        let limiter = Limiter::new(2);
        let first = limiter.acquire().await;
        let _second = limiter.acquire().await;
        let third = tokio::time::timeout(Duration::from_secs(1), limiter.acquire()).await;
        assert!(third.is_err(), "the third must wait");
        first.done(true);
        let third = tokio::time::timeout(Duration::from_secs(1), limiter.acquire()).await;
        assert!(third.is_ok(), "a freed place is taken");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_halve_the_window_once_per_spell_and_success_widens_it() {
        let limiter = Limiter::new(8);
        let permits = [limiter.acquire().await, limiter.acquire().await, limiter.acquire().await];
        tokio::time::advance(Duration::from_secs(60)).await;
        for permit in permits {
            permit.done(false);
        }
        assert_eq!(limiter.window(), 4);
        for _ in 0..200 {
            let held: Vec<_> = [limiter.acquire().await, limiter.acquire().await, limiter.acquire().await].into();
            let fourth = limiter.acquire().await;
            fourth.done(true);
            drop(held);
        }
        assert!(limiter.window() > 4, "{}", limiter.window());
    }
}
