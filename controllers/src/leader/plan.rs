//! What a candidate does next: pure.

use std::time::Duration;

/// A leader that was not heard for so long may be replaced. With [`RENEW_EVERY`] and [`LOOK_EVERY`] it leaves a killed
/// leader less than five seconds.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// Three renewals fit into one lease, so that two may be lost.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at somebody else's lease.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(400);

/// The Lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Who leads; empty when the last leader left properly.
    pub(super) holder: String,
    /// What the leader wrote last; only compared with itself, since clocks differ.
    pub(super) renewed: String,
    /// The precondition of a write.
    pub(super) version: String,
    /// How often the lead has changed hands.
    pub(super) transitions: i32,
}

/// What a candidate knows.
#[derive(Debug, Clone)]
pub(super) struct Observed<'a> {
    pub(super) me: &'a str,
    /// Whether this candidate leads as far as it knows.
    pub(super) leading: bool,
    /// `None` when there is no Lease.
    pub(super) lease: Option<&'a Seen>,
    /// For how long, by this candidate's own clock, the leader has written nothing new.
    pub(super) unchanged: Duration,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the Lease, with oneself as its holder.
    Create,
    /// Take the Lease over.
    Take,
    /// Say that one lives.
    Renew,
    /// Somebody else leads.
    StandDown,
    /// Look again after this time.
    Wait(Duration),
}

/// Decides.
pub(super) fn plan(observed: &Observed<'_>) -> Step {
    let Some(lease) = observed.lease else { return Step::Create };
    let mine = lease.holder == observed.me;
    match (mine, observed.leading) {
        (true, true) => Step::Renew,
        // A former life of this candidate held it: nobody else can be meant.
        (true, false) => Step::Take,
        (false, true) if lease.holder.is_empty() => Step::Take,
        (false, true) => Step::StandDown,
        (false, false) if lease.holder.is_empty() || observed.unchanged >= LEASE => Step::Take,
        (false, false) => Step::Wait(LOOK_EVERY.min(LEASE.saturating_sub(observed.unchanged))),
    }
}
