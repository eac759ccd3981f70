//! Chooses pod addresses. Pure: what is taken comes from the pods' records, so nothing can leak.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use jiff::{SignedDuration, Timestamp};

use super::Cidr;

/// How long an address stays unused after its pod is gone. Clients that still hold the old address (a connection pool,
/// a DNS answer of 5 s, a proxy on a node that lags) must not reach a different pod under it.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(30);

/// Which addresses of the node's network may be given out next.
#[derive(Debug)]
pub(crate) struct AddressChooser {
    range: Option<(u32, u32)>,
    /// The search goes round, so that an address is reused as late as possible.
    next: u32,
    released: HashMap<Ipv4Addr, Timestamp>,
}

impl AddressChooser {
    pub(crate) fn new(cidr: Cidr, released: HashMap<Ipv4Addr, Timestamp>, newest: Option<Ipv4Addr>) -> Self {
        let range = cidr.pod_range();
        let first = range.map_or(0, |(first, _)| first);
        let next = newest.map_or(first, |address| address.to_bits().saturating_add(1));
        Self { range, next, released }
    }

    /// An address that is not in `taken`. Quarantined ones are given out, oldest first, only when no other is left.
    pub(crate) fn choose(&mut self, taken: &HashSet<Ipv4Addr>, now: Timestamp) -> Option<Ipv4Addr> {
        let (first, last) = self.range?;
        self.released.retain(|_, since| now.duration_since(*since) < QUARANTINE);
        let start = if (first..=last).contains(&self.next) { self.next } else { first };
        let mut candidates = (start..=last).chain(first..start).map(Ipv4Addr::from_bits);
        let blind = drover_api::mutants::active("E02-address-given-twice");
        let is_taken = |address: &Ipv4Addr| taken.contains(address) && !blind;
        let fresh = candidates.find(|address| !is_taken(address) && !self.released.contains_key(address));
        let chosen = fresh.or_else(|| self.oldest_released(taken, (first, last)))?;
        self.released.remove(&chosen);
        self.next = chosen.to_bits().saturating_add(1);
        Some(chosen)
    }

    /// Starts the quarantine of an address whose pod is gone.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: Timestamp) {
        if !drover_api::mutants::active("E02-no-quarantine") {
            self.released.insert(address, now);
        }
    }

    fn oldest_released(&self, taken: &HashSet<Ipv4Addr>, (first, last): (u32, u32)) -> Option<Ipv4Addr> {
        let usable = |address: &Ipv4Addr| (first..=last).contains(&address.to_bits()) && !taken.contains(address);
        let waiting = self.released.iter().filter(|(address, _)| usable(address));
        waiting.min_by_key(|(address, since)| (**since, **address)).map(|(address, _)| *address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chooser(cidr: &str) -> AddressChooser {
        AddressChooser::new(cidr.parse().unwrap(), HashMap::new(), None)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn a_released_address_rests_while_others_are_free() {
        let mut chooser = chooser("10.0.0.0/29");
        let mut taken = HashSet::new();
        for expected in 2..=5 {
            let chosen = chooser.choose(&taken, at(0)).unwrap();
            assert_eq!(chosen, ip(expected));
            taken.insert(chosen);
        }
        taken.remove(&ip(2));
        chooser.release(ip(2), at(0));
        assert_eq!(chooser.choose(&taken, at(1)), Some(ip(6)));
        taken.insert(ip(6));
        assert_eq!(chooser.choose(&taken, at(2)), Some(ip(2)), "scarcity ends the quarantine early");
        taken.insert(ip(2));
        assert_eq!(chooser.choose(&taken, at(3)), None, "a full network has none");
    }

    #[test]
    fn a_search_that_comes_round_passes_over_what_was_released_lately() {
        let mut chooser = chooser("10.0.0.0/29");
        let mut taken = HashSet::new();
        for _ in 2..=6 {
            let chosen = chooser.choose(&taken, at(0)).unwrap();
            taken.insert(chosen);
        }
        for (address, second) in [(ip(3), 0), (ip(2), 40)] {
            taken.remove(&address);
            chooser.release(address, at(second));
        }
        assert_eq!(chooser.choose(&taken, at(41)), Some(ip(3)), "the other was in use a second ago");
    }

    #[test]
    fn the_search_goes_on_behind_the_newest_address() {
        let mut chooser = AddressChooser::new("10.0.0.0/24".parse().unwrap(), HashMap::new(), Some(ip(250)));
        let taken = HashSet::from([ip(251)]);
        let chosen: Vec<_> = (0..5).map_while(|_| chooser.choose(&taken, at(0))).collect();
        assert_eq!(chosen, [ip(252), ip(253), ip(254), ip(2), ip(3)]);
    }

    #[test]
    fn a_network_without_room_gives_nothing() {
        assert_eq!(chooser("10.0.0.0/31").choose(&HashSet::new(), at(0)), None);
    }

    proptest! {
        #[test]
        fn never_two_owners_and_never_full_while_one_is_free(steps in prop::collection::vec((any::<bool>(), 0usize..8), 1..200)) {
            let mut chooser = chooser("10.0.0.0/29");
            let mut taken: Vec<Ipv4Addr> = Vec::new();
            for (second, (add, which)) in steps.into_iter().enumerate() {
                let now = at(i64::try_from(second).unwrap());
                if add {
                    let set: HashSet<_> = taken.iter().copied().collect();
                    match chooser.choose(&set, now) {
                        Some(address) => { prop_assert!(!set.contains(&address)); taken.push(address); }
                        None => prop_assert_eq!(taken.len(), 5),
                    }
                } else if which < taken.len() {
                    chooser.release(taken.remove(which), now);
                }
            }
        }
    }
}
