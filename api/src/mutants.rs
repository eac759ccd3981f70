//! Planted bugs: the positive control of every proof. A harness that finds nothing proves nothing.
//!
//! Owns the switch and nothing else; a planted bug is one `if` at the decision it spoils, and `docs/mutants.md` says which
//! public bug each stands for. Without the feature `mutants`, which no shipped build has, [`active`] is `false` at
//! compile time and the bug is not in the binary. May not be asked for anything but a planted bug.

/// Returns whether the planted bug `id` is on: chosen for this thread by [`activate`], else for the whole process by
/// the environment variable `DROVER_MUTANT`.
#[cfg(feature = "mutants")]
pub fn active(id: &str) -> bool {
    CHOSEN.with_borrow(|chosen| match chosen {
        Some(chosen) => chosen == id,
        None => of_process() == Some(id),
    })
}

/// Returns `false`: this build has no planted bugs.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn active(_id: &str) -> bool {
    false
}

/// Chooses the planted bug of this thread; the empty string chooses none.
#[cfg(feature = "mutants")]
pub fn activate(id: &str) {
    CHOSEN.set(Some(id.to_owned()));
}

#[cfg(feature = "mutants")]
thread_local! {
    static CHOSEN: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

#[cfg(feature = "mutants")]
fn of_process() -> Option<&'static str> {
    static OF_PROCESS: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    OF_PROCESS.get_or_init(|| std::env::var("DROVER_MUTANT").ok()).as_deref()
}
