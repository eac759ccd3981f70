//! Joining, and staying joined.

use std::{sync::Arc, time::Duration};

use kube::Client;
use rustls::client::ResolvesClientCert;
use tokio_util::sync::CancellationToken;

use super::{
    AskError, Dialer, JoinError, JoinOptions, Membership, TlsTunnelDialer, Trust, TrustError,
    ask::{Admission, ask},
    client::client,
    identity::Identity,
    state::State,
};
use crate::chance::Chance;

/// Between two tries while no server answers: the first, and what it grows to.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A host that is a node.
#[derive(Debug)]
pub struct Member {
    /// What the cluster told.
    pub membership: Membership,
    options: JoinOptions,
    state: State,
    identity: Arc<Identity>,
    /// What is left of the certificate's life, where that is known: of one that was kept it is not.
    life: Option<Duration>,
}

/// Joins, or takes up what an earlier start left. Waits for a server only the first time; `None` when `shutdown` comes
/// before one answers.
///
/// # Errors
/// [`JoinError`]: what trying again would not change.
pub async fn join(
    options: JoinOptions,
    chance: &Chance,
    shutdown: &CancellationToken,
) -> Result<Option<Member>, JoinError> {
    let state = State::open(&options.data_dir)?;
    let identity = Arc::new(Identity::new(&state.key()??)?);
    let (membership, life) = match state.membership()? {
        Some((membership, certificate)) => {
            check_names(&options, &membership)?;
            identity.adopt(&certificate)?;
            (membership, None)
        }
        None => {
            let trust = options.trust.clone().ok_or(JoinError::NoTrust)?;
            let dialer = Dialer::new(&options.servers, trust.client_config(None, b"http/1.1")?);
            let Some(admission) = first_admission(&dialer, &options, &identity, chance, shutdown).await? else {
                return Ok(None);
            };
            let Admission { membership, certificate, life } = admission;
            identity.adopt(&certificate)?;
            state.keep(&membership, &certificate)?;
            (membership, Some(life))
        }
    };
    Ok(Some(Member { membership, options, state, identity, life }))
}

fn check_names(options: &JoinOptions, kept: &Membership) -> Result<(), JoinError> {
    let cluster = options.cluster_name.as_ref().is_none_or(|name| *name == kept.cluster_name);
    if cluster && options.node_name == kept.node_name {
        return Ok(());
    }
    Err(JoinError::Another {
        dir: options.data_dir.clone(),
        kept_node: kept.node_name.clone(),
        kept_cluster: kept.cluster_name.clone(),
    })
}

async fn first_admission(
    dialer: &Dialer,
    options: &JoinOptions,
    identity: &Identity,
    chance: &Chance,
    shutdown: &CancellationToken,
) -> Result<Option<Admission>, JoinError> {
    let mut pause = RETRY_MIN;
    loop {
        // Cancel-safe: what a request that is dropped has done, the next one finds.
        let asked = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            asked = ask(dialer, options, identity, options.cluster_name.as_deref()) => asked,
        };
        match asked {
            Ok(admission) => return Ok(Some(admission)),
            Err(AskError::Refused(why)) => return Err(JoinError::Refused(why)),
            Err(AskError::Unreachable(why)) => tracing::warn!("no server lets this host in yet: {why}"),
        }
        // Cancel-safe: a sleep holds nothing.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(chance.spread(pause, 0.5, 1.0)) => {}
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

impl Member {
    /// The client of the API, as this node.
    ///
    /// # Errors
    /// [`JoinError::Trust`], [`JoinError::Client`].
    pub fn client(&self) -> Result<Client, JoinError> {
        let first = self.options.servers.first().ok_or_else(|| JoinError::Client("there is no server".into()))?;
        client(self.dialer(Some(self.identity()), b"h2")?, first).map_err(JoinError::Client)
    }

    /// Dials tunnels, as this node.
    ///
    /// # Errors
    /// [`JoinError::Trust`].
    pub fn tunnel(&self) -> Result<TlsTunnelDialer, JoinError> {
        let dialer = self.dialer(Some(self.identity()), b"http/1.1")?;
        Ok(TlsTunnelDialer::new(dialer, &self.membership.node_name))
    }

    /// Dials the cluster's servers, as whoever is given.
    fn dialer(&self, identity: Option<Arc<dyn ResolvesClientCert>>, protocol: &[u8]) -> Result<Dialer, TrustError> {
        let trust = Trust::Authorities(self.membership.certificate_authority.clone());
        Ok(Dialer::new(&self.options.servers, trust.client_config(identity, protocol)?))
    }

    fn identity(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.identity) as _
    }

    /// Renews the certificate, until `shutdown`. A refusal is no end: who revoked the key may take it back.
    pub async fn stay(mut self, chance: Chance, shutdown: CancellationToken) {
        let mut pause = RETRY_MIN;
        loop {
            let wait = match self.life.take() {
                Some(life) => {
                    pause = RETRY_MIN;
                    renewal_after(life)
                }
                None => chance.spread(pause, 0.5, 1.0),
            };
            // Cancel-safe: a sleep holds nothing.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            // Cancel-safe: what a request that is dropped has done, the next one finds.
            let renewed = tokio::select! {
                () = shutdown.cancelled() => return,
                renewed = self.renew() => renewed,
            };
            match renewed {
                Ok(life) => self.life = Some(life),
                Err(why) => {
                    tracing::warn!(retry_ms = pause.as_millis(), "the node's certificate is not renewed: {why}");
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn renew(&self) -> Result<Duration, String> {
        let cluster = Some(self.membership.cluster_name.as_str());
        let dialer = self.dialer(None, b"http/1.1").map_err(|error| error.to_string())?;
        let admission =
            ask(&dialer, &self.options, &self.identity, cluster).await.map_err(|error| error.to_string())?;
        self.identity.adopt(&admission.certificate).map_err(|error| error.to_string())?;
        self.state.keep(&admission.membership, &admission.certificate).map_err(|error| error.to_string())?;
        tracing::debug!("certificate renewed");
        Ok(admission.life)
    }
}

/// When to renew a certificate that lives so long: at two thirds, which leaves the last for trying.
pub(super) fn renewal_after(life: Duration) -> Duration {
    life * 2 / 3
}
