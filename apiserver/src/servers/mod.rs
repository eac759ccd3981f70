//! Several servers on one store: who they are, how they talk, and which of them owns the memory-only class.
//!
//! Owns the records of servers in the store, the connections between them and the paths below `/drover/peer/`. A server
//! dials only addresses that another server registered in the store about itself, and both ends show certificates of the
//! cluster's authority: the dialled one a server's, the dialling one a client's of the group `system:drover:servers`.
//! Nothing here runs where the store is the embedded one.

mod agents;
mod connection;
mod election;
pub(crate) mod identity;
mod plan;
mod record;
mod remote;
mod serve;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use drover_store::{Backend, Error};

use crate::{
    request::{RequestInfo, User},
    tunnel::Tunnels,
    volatile::{
        Limit,
        shared::{Place, Shared},
    },
};
pub(crate) use connection::Dialer;
use connection::Peer;
pub(crate) use election::Memory;
pub(crate) use record::ServerRecord;

/// Members are the other servers of the cluster.
const SERVERS: &str = "system:drover:servers";
/// Everything that servers ask each other.
const PATH: &str = "/drover/peer/v1/";
/// A server that does not answer a question by then is passed over.
const PATIENCE: Duration = Duration::from_secs(2);

/// This server among the others.
#[derive(Debug)]
pub(crate) struct Servers {
    me: ServerRecord,
    backend: Arc<dyn Backend>,
    shared: Arc<Shared>,
    dialer: Arc<Dialer>,
    limits: Vec<Limit>,
    /// Connections to the others, as far as they were needed.
    peers: Mutex<Vec<Arc<Peer>>>,
    tunnels: OnceLock<Arc<Tunnels>>,
}

impl Servers {
    /// Builds the view of a server that is not registered yet.
    pub(crate) fn new(me: ServerRecord, backend: Arc<dyn Backend>, dialer: Dialer, limits: Vec<Limit>) -> Arc<Self> {
        let (shared, peers) = (Arc::default(), Mutex::default());
        Arc::new(Self { me, backend, shared, dialer: Arc::new(dialer), limits, peers, tunnels: OnceLock::new() })
    }

    /// The memory-only class.
    pub(crate) fn volatile(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Says where agents are connected to this server.
    pub(crate) fn set_tunnels(&self, tunnels: &Arc<Tunnels>) {
        // A second call would be a second table of tunnels on one server, which nothing builds; the first one stays.
        _ = self.tunnels.set(Arc::clone(tunnels));
    }

    /// Tells the others where this server is.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn register(&self) -> Result<(), Error> {
        record::register(&*self.backend, &self.me).await
    }

    /// Takes this server out of the others' sight, at a proper end.
    pub(crate) async fn leave(&self) {
        let epoch = self.shared.own().map(|(epoch, _)| epoch);
        // First of all: whoever finds the record gone answers at once.
        self.shared.move_to(Place::Nowhere);
        record::leave(&*self.backend, &self.me, epoch).await;
    }

    /// Whether a request is between servers.
    pub(crate) fn serves(info: &RequestInfo) -> bool {
        info.path.starts_with(PATH)
    }

    /// Whether a user is another server.
    fn is_server(user: &User) -> bool {
        user.in_group(SERVERS)
    }

    /// The connection to a server, made when it is first used.
    fn peer(&self, record: &ServerRecord) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.iter().find(|peer| peer.record() == record) {
            return Arc::clone(known);
        }
        peers.retain(|peer| peer.record().id != record.id);
        let peer = Arc::new(Peer::new(record.clone(), Arc::clone(&self.dialer)));
        peers.push(Arc::clone(&peer));
        peer
    }

    /// Every other server that is registered; while the store is silent, those that were known before.
    async fn others(&self) -> Vec<Arc<Peer>> {
        match record::list(&*self.backend).await {
            Ok(records) => {
                records.iter().filter(|record| record.id != self.me.id).map(|record| self.peer(record)).collect()
            }
            Err(_) => self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
