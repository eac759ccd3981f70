//! A server without sockets of its own: for simulations, and for tests that bring their own transport.

use std::sync::Arc;

use drover_store::Backend;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    Error, LocalService,
    accept::Acceptor,
    config::NODE_CERTIFICATE_LIFE,
    core::{Core, CoreConfig},
    tls,
};
use crate::{
    administration::Administration,
    admission::Settings,
    audit::Audit,
    bootstrap,
    join::JoinConfig,
    pki::{Identity, Pki},
    registry::{Environment, Registry},
    request::User,
    restore,
    tunnel::Tunnels,
};

/// Name of the cluster of a server within a process.
const CLUSTER: &str = "drover";

/// What a server within a process is built from.
#[derive(Debug)]
pub struct InProcessConfig {
    /// Where objects are kept.
    pub backend: Arc<dyn Backend>,
    /// Time, identities and chance.
    pub environment: Arc<dyn Environment>,
    /// Networks and ports of Services.
    pub settings: Settings,
    /// Signs service account tokens: P-256, PKCS#8 PEM.
    pub token_key_pem: String,
    /// Keys and certificates, for connections that come with TLS ([`InProcess::connect`]).
    pub pki: Option<Arc<Pki>>,
}

/// A running server. It ends when its token is cancelled; dropping it ends the registry at once.
pub struct InProcess {
    core: Core,
    acceptor: Option<Acceptor>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InProcess").field("registry", &self.core.registry).finish_non_exhaustive()
    }
}

impl InProcess {
    /// Starts a server and returns once the built-in objects exist.
    ///
    /// # Errors
    /// [`Error`], with nothing left running.
    pub async fn start(config: InProcessConfig, shutdown: CancellationToken) -> Result<Self, Error> {
        let InProcessConfig { backend, environment, settings, token_key_pem, pki } = config;
        let url = "https://drover.invalid:6443".to_owned();
        let (audit, administration) = (Audit::off(), Administration::default());
        let cluster_name = CLUSTER.to_owned();
        let opened = restore::open(backend, None, &cluster_name, Arc::clone(&environment)).await;
        let opened = opened.map_err(|error| Error::Restore(Box::new(error)))?;
        let core = CoreConfig {
            backend: opened.gate.clone(),
            environment,
            settings,
            url,
            token_key_pem,
            advertised: None,
            audit,
            administration,
            opened,
            cluster_name,
            slice: bootstrap::slice_name(None),
            sharing: None,
            join: pki.as_ref().map(|pki| JoinConfig {
                pki: Arc::clone(pki),
                cluster_name: CLUSTER.to_owned(),
                cluster_cidr: String::new(),
                service_cidr: String::new(),
                certificate_life: NODE_CERTIFICATE_LIFE,
            }),
        };
        let core = Core::start(core, &shutdown).await?;
        let acceptor = match pki {
            Some(pki) => {
                let tls = tls::config(&pki).map_err(Error::Tls)?;
                let (front, tasks) = (Arc::clone(&core.front), core.tasks.clone());
                Some(Acceptor::new(tls, front, tasks, shutdown, CancellationToken::new()))
            }
            None => None,
        };
        core.front.health.set_ready();
        Ok(Self { core, acceptor })
    }

    /// Returns the transport for a component that acts as `user`.
    pub fn local_service(&self, user: User) -> LocalService {
        LocalService::new(Arc::clone(&self.core.front), user)
    }

    /// Lets the key of a node's certificate in.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] when the node has another key, or the store cannot be written.
    pub async fn let_in(&self, node: &str, identity: &Identity) -> Result<(), Error> {
        match &self.core.joins {
            Some(joins) => joins.vouch(node, &identity.key_hash()).await.map_err(Error::Bootstrap),
            None => Ok(()),
        }
    }

    /// Serves one connection that somebody else accepted; it must speak TLS. Without keys it is closed at once.
    pub fn connect<T>(&self, stream: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(acceptor) = &self.acceptor {
            acceptor.clone().serve(stream);
        }
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.core.registry
    }

    /// Returns the agents' connections.
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.core.tunnels
    }
}
