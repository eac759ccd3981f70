//! Counts which fault struck in which phase: a simulation proves nothing about what it never did.

use std::{collections::BTreeMap, fmt};

/// What the cluster was busy with when a fault struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The cluster comes up.
    Start,
    /// A workload is made or grows or shrinks.
    Scale,
    /// A new version is rolled out or taken back.
    Roll,
    /// Something is deleted, perhaps to be made anew.
    Delete,
    /// A node is drained or comes back.
    Drain,
    /// A part recovers from an earlier crash.
    Recovery,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Start, Self::Scale, Self::Roll, Self::Delete, Self::Drain, Self::Recovery];
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Start => "start",
            Self::Scale => "scale",
            Self::Roll => "roll",
            Self::Delete => "delete",
            Self::Drain => "drain",
            Self::Recovery => "recovery",
        };
        formatter.pad(name)
    }
}

/// Faults by kind and phase. Tallies of several runs add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<(&'static str, Phase), u64>,
}

impl Tally {
    /// Counts one fault.
    pub fn count(&mut self, kind: &'static str, phase: Phase) {
        *self.counts.entry((kind, phase)).or_default() += 1;
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
    }

    /// Returns the number of faults.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns the kinds that struck at least once, with the phases they did not strike in.
    pub fn missed(&self) -> Vec<(&'static str, Phase)> {
        let mut kinds: Vec<&'static str> = self.counts.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        let all = kinds.into_iter().flat_map(|kind| Phase::ALL.map(|phase| (kind, phase)));
        all.filter(|key| !self.counts.contains_key(key)).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<24}", "fault")?;
        for phase in Phase::ALL {
            write!(formatter, "{phase:>10}")?;
        }
        let mut kinds: Vec<&'static str> = self.counts.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            write!(formatter, "\n{kind:<24}")?;
            for phase in Phase::ALL {
                write!(formatter, "{:>10}", self.counts.get(&(kind, phase)).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Phase, Tally};

    #[test]
    fn what_was_never_done_is_said() {
        let mut tally = Tally::default();
        for phase in [Phase::Start, Phase::Scale, Phase::Roll, Phase::Delete, Phase::Drain] {
            tally.count("crash", phase);
        }
        assert_eq!(tally.missed(), [("crash", Phase::Recovery)]);
        tally.count("crash", Phase::Recovery);
        assert_eq!(tally.missed(), []);
        assert_eq!(tally.total(), 6);
    }
}
