//! S1, S2, S3 and S12 over a log of what clients wrote and were answered.
//!
//! An acknowledged write is there at the end, or something newer is. Revisions only grow, across crashes, restarts and
//! restores. Of two writes that both say which version they change, one wins. A leader that was replaced writes no more.

use std::collections::BTreeMap;

use crate::Violation;

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Made the object; it must not have existed.
    Create,
    /// Changed it.
    Update,
    /// Removed it.
    Delete,
}

/// One acknowledged write. Leave out those whose answer was lost: they may have happened or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRecord {
    /// `kind/namespace/name`.
    pub key: String,
    /// What it did.
    pub verb: Verb,
    /// The revision that the answer gave it; for a deletion that of the deletion when known.
    pub revision: u64,
    /// The resourceVersion it was conditional on; `None` for none.
    pub base: Option<u64>,
    /// The epoch of the leader that wrote; `None` for users and agents.
    pub epoch: Option<u64>,
    /// When the request was sent, in any unit that is the same for all.
    pub sent_at: u64,
    /// When the answer came.
    pub answered_at: u64,
}

/// Returns what the log breaks.
pub fn check_writes(log: &[WriteRecord]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut by_revision: Vec<&WriteRecord> = log.iter().collect();
    by_revision.sort_by_key(|record| record.revision);
    for pair in by_revision.windows(2) {
        if pair[0].revision == pair[1].revision {
            let message = format!("revision {} was given to {} too", pair[0].revision, pair[0].key);
            violations.push(Violation::new("S2", &pair[1].key, message));
        }
    }
    violations.extend(grows_in_time(log));
    violations.extend(one_winner(&by_revision));
    violations.extend(epochs_grow(&by_revision));
    violations
}

/// A write that began after another was answered has the higher revision.
fn grows_in_time(log: &[WriteRecord]) -> Vec<Violation> {
    let mut sent: Vec<&WriteRecord> = log.iter().collect();
    sent.sort_by_key(|record| record.sent_at);
    let mut answered = sent.clone();
    answered.sort_by_key(|record| record.answered_at);
    let mut answered = answered.into_iter().peekable();
    let (mut highest, mut violations) = (0, Vec::new());
    for record in sent {
        while let Some(earlier) = answered.next_if(|earlier| earlier.answered_at < record.sent_at) {
            highest = highest.max(earlier.revision);
        }
        if record.revision <= highest {
            let message = format!("got revision {} after {highest} had been given out", record.revision);
            violations.push(Violation::new("S2", &record.key, message));
        }
    }
    violations
}

fn one_winner(by_revision: &[&WriteRecord]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut bases: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut last: BTreeMap<&str, Verb> = BTreeMap::new();
    for record in by_revision {
        if let Some(base) = record.base
            && let Some(first) = bases.insert((&record.key, base), record.revision)
        {
            let message = format!("revisions {first} and {} both changed version {base}", record.revision);
            violations.push(Violation::new("S3", &record.key, message));
        }
        let before = last.insert(&record.key, record.verb);
        if record.verb == Verb::Create && matches!(before, Some(Verb::Create | Verb::Update)) {
            violations.push(Violation::new(
                "S3",
                &record.key,
                format!("was made again at {} while it was there", record.revision),
            ));
        }
    }
    violations
}

fn epochs_grow(by_revision: &[&WriteRecord]) -> Vec<Violation> {
    let (mut highest, mut violations) = (0, Vec::new());
    for record in by_revision {
        let Some(epoch) = record.epoch else { continue };
        if epoch < highest {
            let message = format!("epoch {epoch} wrote revision {} after epoch {highest} had", record.revision);
            violations.push(Violation::new("S12", &record.key, message));
        }
        highest = highest.max(epoch);
    }
    violations
}

/// Returns the acknowledged writes that `found`, the state read at the end with its revisions, does not reflect. Keys
/// that others write as well must be left out of `log`, or their writes be in it.
pub fn check_durable(log: &[WriteRecord], found: &BTreeMap<String, u64>) -> Vec<Violation> {
    let mut newest: BTreeMap<&str, &WriteRecord> = BTreeMap::new();
    for record in log {
        let known = newest.entry(&record.key).or_insert(record);
        if record.revision > known.revision {
            *known = record;
        }
    }
    let mut violations = Vec::new();
    for (key, record) in newest {
        let message = match (record.verb, found.get(key)) {
            (Verb::Delete, Some(revision)) if *revision <= record.revision => {
                format!("was deleted at {} and is back at {revision}", record.revision)
            }
            (Verb::Create | Verb::Update, None) => format!("was written at {} and is not there", record.revision),
            (Verb::Create | Verb::Update, Some(revision)) if *revision < record.revision => {
                format!("was written at {} and is at {revision}", record.revision)
            }
            (Verb::Create | Verb::Update | Verb::Delete, _) => continue,
        };
        violations.push(Violation::new("S1", key, message));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, verb: Verb, revision: u64, base: Option<u64>) -> WriteRecord {
        let (sent_at, answered_at) = (revision * 10, revision * 10 + 5);
        WriteRecord { key: key.to_owned(), verb, revision, base, epoch: None, sent_at, answered_at }
    }

    fn rules(violations: &[Violation]) -> Vec<&'static str> {
        violations.iter().map(|violation| violation.rule).collect()
    }

    fn good() -> Vec<WriteRecord> {
        vec![
            write("a", Verb::Create, 1, None),
            write("b", Verb::Create, 2, None),
            write("a", Verb::Update, 3, Some(1)),
            write("a", Verb::Delete, 4, Some(3)),
            write("a", Verb::Create, 5, None),
        ]
    }

    #[test]
    fn each_broken_log_breaks_its_rule() {
        assert_eq!(check_writes(&good()), []);
        let with = |change: fn(&mut Vec<WriteRecord>)| {
            let mut log = good();
            change(&mut log);
            rules(&check_writes(&log))
        };
        assert_eq!(with(|log| log[4].revision = 4), ["S2", "S2"], "reused, and not above what was answered");
        assert_eq!(with(|log| log[4].sent_at = 0), [] as [&str; 0], "overlapping writes may go either way");
        assert_eq!(
            with(|log| log.push(WriteRecord { revision: 9, ..write("b", Verb::Update, 6, None) })),
            [] as [&str; 0]
        );
        assert_eq!(
            with(|log| log.push(WriteRecord { revision: 0, ..write("z", Verb::Create, 6, None) })),
            ["S2"],
            "went back"
        );
        assert_eq!(with(|log| log.push(write("a", Verb::Update, 6, Some(1)))), ["S3"], "lost update");
        assert_eq!(with(|log| log.push(write("b", Verb::Create, 6, None))), ["S3"], "created twice");
        let stale = |log: &mut Vec<WriteRecord>| {
            log[2].epoch = Some(7);
            log[3].epoch = Some(6);
        };
        assert_eq!(with(stale), ["S12"]);
    }

    #[test]
    fn an_acknowledged_write_is_there_or_something_newer() {
        let state =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect();
        assert_eq!(check_durable(&good(), &state(&[("a", 5), ("b", 2)])), []);
        assert_eq!(check_durable(&good(), &state(&[("a", 9), ("b", 2)])), []);
        assert_eq!(rules(&check_durable(&good(), &state(&[("a", 5)]))), ["S1"]);
        assert_eq!(rules(&check_durable(&good(), &state(&[("a", 3), ("b", 2)]))), ["S1"]);
        assert_eq!(rules(&check_durable(&good()[..4], &state(&[("a", 3), ("b", 2)]))), ["S1"], "a deletion undone");
    }
}
