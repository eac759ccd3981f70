//! Which hosts answer which: what the agents' questions to their neighbours find in a simulation.

use std::collections::BTreeSet;
use std::time::Duration;

use drover_agent::neighbours::Heard;

/// How long it takes to notice that a host has stopped answering, or answers again.
pub(crate) const NOTICED_AFTER: Duration = Duration::from_secs(1);

/// The links between hosts. Pure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    /// How many there are.
    count: usize,
    /// Those that answer nobody and hear nobody, by how many faults have it so.
    silent: Vec<usize>,
    /// Who does not hear whom.
    deaf: BTreeSet<(usize, usize)>,
}

impl Hosts {
    /// So many hosts that all hear each other.
    pub(crate) fn new(count: usize) -> Self {
        Self { count, ..Self::default() }
    }

    /// A host goes silent until [`Self::speaks`] has been said as often.
    pub(crate) fn falls_silent(&mut self, host: usize) {
        self.silent.push(host);
    }

    /// One reason less for a host to be silent.
    pub(crate) fn speaks(&mut self, host: usize) {
        if let Some(position) = self.silent.iter().position(|silent| *silent == host) {
            self.silent.remove(position);
        }
    }

    /// Whether `host` hears `other` from now on.
    pub(crate) fn set_deaf(&mut self, host: usize, other: usize, deaf: bool) {
        if deaf {
            self.deaf.insert((host, other));
        } else {
            self.deaf.remove(&(host, other));
        }
    }

    /// All is well.
    pub(crate) fn heal(&mut self) {
        *self = Self::new(self.count);
    }

    /// What a host hears of all others; the clusters are small, so that everybody asks everybody.
    pub(crate) fn heard_by(&self, host: usize, name: impl Fn(usize) -> String) -> Heard {
        let hears = |other: &usize| {
            let silent = self.silent.contains(&host) || self.silent.contains(other);
            !silent && !self.deaf.contains(&(host, *other))
        };
        let (heard, lost): (Vec<usize>, Vec<usize>) = (0..self.count).filter(|other| *other != host).partition(hears);
        let names = |hosts: Vec<usize>| hosts.into_iter().map(&name).collect();
        Heard { heard: names(heard), lost: names(lost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_host_is_lost_to_all_until_every_reason_has_passed() {
        let mut hosts = Hosts::new(3);
        let lost = |hosts: &Hosts, host| hosts.heard_by(host, |number| number.to_string()).lost.into_iter().collect();
        hosts.falls_silent(1);
        hosts.falls_silent(1);
        hosts.speaks(1);
        let all: [Vec<String>; 3] = [0, 1, 2].map(|host| lost(&hosts, host));
        assert_eq!(all, [vec!["1"], vec!["0", "2"], vec!["1"]]);
        hosts.speaks(1);
        hosts.set_deaf(2, 0, true);
        let all: [Vec<String>; 3] = [0, 1, 2].map(|host| lost(&hosts, host));
        assert_eq!(all, [vec![], vec![], vec!["0"]]);
        hosts.heal();
        assert!(lost(&hosts, 2).is_empty());
    }
}
