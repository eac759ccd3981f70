//! The API server: the shipping core over the simulated store.

use std::{sync::Arc, time::Duration};

use drover_apiserver::{Error, InProcess, InProcessConfig, admission::Settings, registry::Environment};
use drover_store::Backend;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    clock::SimClock,
    connection,
    faults::Part,
    store::{SimStore, Troubles},
    wire::Wire,
};

/// Between two tries to start on a store that fails.
const RETRY: Duration = Duration::from_millis(500);

/// A key for service account tokens. It protects nothing: no simulated part keeps a secret.
const TOKEN_KEY: &str = include_str!("token-key.pem");

/// What outlives a server: its disk, its host's clock.
#[derive(Debug, Clone)]
pub(crate) struct ServerBox {
    /// The shipping store; without faults, for whoever looks from outside.
    pub(crate) backend: Arc<dyn Backend>,
    /// What is wrong with it.
    pub(crate) troubles: Troubles,
    /// The clock of the server's host.
    pub(crate) clock: SimClock,
    /// Identities and chance.
    pub(crate) chance: Chance,
}

#[derive(Debug)]
struct SimEnvironment {
    clock: SimClock,
    chance: Chance,
}

impl Environment for SimEnvironment {
    fn now(&self) -> Timestamp {
        self.clock.time()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.chance.fill(bytes);
    }
}

/// Starts a server and puts it on the network; tries again while the store fails.
pub(super) async fn start_server(host: &ServerBox, wire: &Wire, shutdown: CancellationToken) {
    let life = wire.begin(Part::Server);
    loop {
        let backend = SimStore::new(Arc::clone(&host.backend), wire.clone(), life.clone(), host.troubles.clone());
        let environment = SimEnvironment { clock: host.clock.clone(), chance: host.chance.clone() };
        let config = InProcessConfig {
            backend: Arc::new(backend),
            environment: Arc::new(environment),
            settings: Settings::default(),
            token_key_pem: TOKEN_KEY.to_owned(),
            pki: wire.is_full().then(connection::pki),
        };
        let started = match InProcess::start(config, shutdown.clone()).await {
            Ok(server) => let_nodes_in(&server, wire).await.map(|()| server),
            Err(error) => Err(error),
        };
        match started {
            Ok(server) => return wire.serve(Arc::new(server), life),
            Err(error) => tracing::debug!(%error, "the server cannot start yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Where agents come over TLS, the cluster must know their keys.
async fn let_nodes_in(server: &InProcess, wire: &Wire) -> Result<(), Error> {
    if wire.is_full() {
        for (name, identity) in connection::nodes() {
            server.let_in(name, identity).await?;
        }
    }
    Ok(())
}
