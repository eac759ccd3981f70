//! How many connections one peer may hold: by the user of its certificate, else by its address.
//!
//! Without it one client could take every slot with idle connections and lock everybody out (faults A12).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{authz::MASTERS, request::User};

/// Connections served at once; each costs at most a few tens of KiB while idle.
pub(super) const CONNECTIONS_MAX: usize = 10_000;
/// Of which one peer holds at most so many: four peers together still leave nobody out by accident.
const OF_ONE_PEER: usize = CONNECTIONS_MAX / 4;
/// Administrators may come from a whole fleet under one name; they too leave room for others.
const OF_ADMINISTRATORS: usize = CONNECTIONS_MAX / 10 * 9;

/// Who is counted as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// Connections whose client has not (yet) shown a certificate.
    Address(IpAddr),
    /// Those of a certificate's user.
    User(String),
}

/// The count of each peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers {
    counts: Arc<Mutex<HashMap<Peer, usize>>>,
}

/// One counted connection; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    peers: Peers,
    peer: Peer,
}

impl Peers {
    /// Counts a connection of an address; `None` when it holds its share already.
    pub(super) fn enter_address(&self, address: IpAddr) -> Option<Place> {
        self.enter(Peer::Address(address), OF_ONE_PEER)
    }

    /// Counts a connection of a user; `None` when they hold their share already.
    pub(super) fn enter_user(&self, user: &User) -> Option<Place> {
        let limit = if user.in_group(MASTERS) { OF_ADMINISTRATORS } else { OF_ONE_PEER };
        self.enter(Peer::User(user.name.clone()), limit)
    }

    fn enter(&self, peer: Peer, limit: usize) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer.clone()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Place { peers: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_every_slot_and_places_come_back() {
        let peers = Peers::default();
        let (greedy, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held: Vec<Place> = (0..OF_ONE_PEER).map(|_| peers.enter_address(greedy).unwrap()).collect();
        assert!(peers.enter_address(greedy).is_none());
        assert!(peers.enter_address(other).is_some());
        assert!(peers.enter_user(&User::new("u", &[])).is_some());
        held.pop();
        assert!(peers.enter_address(greedy).is_some());
        held.clear();
        assert!(peers.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn a_fleet_may_come_in_under_the_administrators_name_but_not_fill_the_house() {
        let peers = Peers::default();
        let admin = User::new("drover-admin", &[MASTERS]);
        let held: Vec<Option<Place>> = (0..CONNECTIONS_MAX).map(|_| peers.enter_user(&admin)).collect();
        assert_eq!(held.iter().flatten().count(), OF_ADMINISTRATORS);
    }
}
