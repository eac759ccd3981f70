//! Who owns the memory-only class: one server's next step. Pure.

use std::time::Duration;

use drover_store::Revision;

use super::record::Owner;

/// How often each server looks at the record, and asks the owner whether it lives.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// An owner that answered nothing for so long may be replaced. Six ticks, so that a busy machine is not a dead one.
pub(super) const SILENCE: Duration = Duration::from_millis(1500);
/// Ownership counts as confirmed for so long after a look at the record has begun.
pub(super) const CONFIRMED: Duration = Duration::from_millis(1000);
/// A new owner waits for so long before it answers: the old one, should it live, has stopped by then. Longer than
/// [`CONFIRMED`] by more than clocks can differ within a second.
pub(super) const HANDOVER: Duration = Duration::from_millis(1200);

/// What a server knows.
#[derive(Debug, Clone)]
pub(super) struct Observed<'a> {
    pub(super) me: &'a str,
    /// The epoch under which this process owns the class; 0 when it does not.
    pub(super) mine: Revision,
    /// `None` when there is no record.
    pub(super) owner: Option<&'a Owner>,
    /// For how long the owner has not been heard, counted from no earlier than when its record was first seen.
    pub(super) silent: Duration,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// This server still owns the class.
    Confirm,
    /// Another one does.
    Follow,
    /// Take it when the record is still of this revision (0: when there is none), and answer after the pause.
    Take {
        /// The revision compared.
        expected: Revision,
        /// The old owner's time to notice.
        pause: Duration,
    },
}

/// Decides.
pub(super) fn plan(observed: &Observed<'_>) -> Step {
    let Some(owner) = observed.owner else { return Step::Take { expected: 0, pause: Duration::ZERO } };
    let expected = owner.epoch;
    if owner.epoch == observed.mine {
        Step::Confirm
    } else if owner.server.id == observed.me || owner.server.id.is_empty() {
        // A former life of this server, of which nothing is left: the data directory is locked.
        Step::Take { expected, pause: Duration::ZERO }
    } else if observed.silent >= SILENCE {
        Step::Take { expected, pause: HANDOVER }
    } else {
        Step::Follow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::ServerRecord;

    fn step(mine: Revision, owner: Option<(&str, Revision)>, silent: Duration) -> Step {
        let address = "192.0.2.1:6443".parse().unwrap();
        let owner = owner.map(|(id, epoch)| Owner { server: ServerRecord { id: id.to_owned(), address }, epoch });
        plan(&Observed { me: "a", mine, owner: owner.as_ref(), silent })
    }

    #[test]
    fn a_server_takes_what_nobody_or_its_former_life_has_at_once_and_the_silent_ones_after_a_pause() {
        let take = |expected, pause| Step::Take { expected, pause };
        let (now, almost) = (Duration::ZERO, SILENCE - Duration::from_millis(1));
        assert_eq!(step(0, None, now), take(0, Duration::ZERO));
        assert_eq!(step(7, None, now), take(0, Duration::ZERO), "the record was removed under its owner");
        assert_eq!(step(0, Some(("a", 7)), now), take(7, Duration::ZERO));
        assert_eq!(step(0, Some(("", 7)), now), take(7, Duration::ZERO), "a record that cannot be read");
        assert_eq!(step(0, Some(("b", 7)), almost), Step::Follow);
        assert_eq!(step(0, Some(("b", 7)), SILENCE), take(7, HANDOVER));
    }

    #[test]
    fn an_owner_confirms_until_the_record_is_another() {
        assert_eq!(step(7, Some(("a", 7)), SILENCE * 9), Step::Confirm);
        assert_eq!(step(7, Some(("b", 9)), Duration::ZERO), Step::Follow);
        assert!(HANDOVER > CONFIRMED && SILENCE > TICK * 4);
    }
}
