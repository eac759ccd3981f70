//! The loop of a candidate: look, decide, write; and the controllers' term in between.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde::Deserialize;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Election, FencedClient,
    plan::{LEASE, LOOK_EVERY, Observed, RENEW_EVERY, Seen, Step, plan},
};
use crate::runtime::{Environment, error::chain};

/// Names both the Lease and the fence.
const NAMESPACE: &str = "kube-system";
const LEASE_NAME: &str = "drover-controllers";
const FENCE: &str = "controllers";
/// A server that does not answer a look or a renewal by then is asked anew.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the controllers for one term, until the token is cancelled.
pub type Term = Box<dyn Fn(Client, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the API refused")]
    Request(#[source] kube::Error),
    #[error("the API did not answer in time")]
    TimedOut,
    #[error("the request cannot be built")]
    Build(#[source] http::Error),
}

/// A lead, from the raising of the fence to its loss.
struct Lead {
    /// Ends the controllers.
    stop: CancellationToken,
    /// Cancelled when the server refuses a write of ours.
    lost: CancellationToken,
    controllers: JoinHandle<()>,
}

struct Candidate {
    client: Client,
    leases: Api<Lease>,
    election: Election,
    environment: Environment,
    term: Term,
    lead: Option<Lead>,
    /// What the leader wrote last, and since when we know it.
    last: Option<((String, String), Instant)>,
}

#[derive(Deserialize)]
struct Raised {
    epoch: u64,
}

/// Takes part in the election until `shutdown`, and runs a term of controllers whenever it is won. A term that ends by
/// itself ends everything, so that whoever supervises the process sees it.
pub async fn run(
    client: Client,
    election: Election,
    environment: Environment,
    term: Term,
    shutdown: CancellationToken,
) {
    let leases = Api::namespaced(client.clone(), NAMESPACE);
    let mut candidate = Candidate { client, leases, election, environment, term, lead: None, last: None };
    while !shutdown.is_cancelled() {
        let pause = match candidate.advance(&shutdown).await {
            Ok(pause) => pause,
            Err(failure) => {
                tracing::debug!(error = %chain(&failure), "no progress in the election of the controllers' leader");
                candidate.environment.jitter(LOOK_EVERY)
            }
        };
        candidate.pause(pause, &shutdown).await;
    }
    candidate.resign().await;
}

impl Candidate {
    /// Waits for the time of the next step, or until the lead or the process comes to its end.
    async fn pause(&mut self, pause: Duration, shutdown: &CancellationToken) {
        let (ended, refused) = match &mut self.lead {
            // Cancel-safe, all four: timers, tokens, and a handle that is looked at last, for it ends with the shutdown.
            Some(lead) => tokio::select! {
                biased;
                () = shutdown.cancelled() => (false, false),
                () = lead.lost.cancelled() => (false, true),
                _ = &mut lead.controllers => (true, false),
                () = tokio::time::sleep(pause) => (false, false),
            },
            None => tokio::select! {
                () = shutdown.cancelled() => (false, false),
                () = tokio::time::sleep(pause) => (false, false),
            },
        };
        if ended {
            tracing::error!("the controllers ended by themselves");
            self.lead = None;
            shutdown.cancel();
        } else if refused {
            self.stand_down("the API server refused a write, for somebody else leads").await;
        }
    }

    /// One look and one step; returns when to look again.
    async fn advance(&mut self, shutdown: &CancellationToken) -> Result<Duration, Failure> {
        let found = self.read().await?;
        let seen = found.as_ref().map(seen);
        let unchanged = self.note(seen.as_ref());
        let me = self.election.identity.clone();
        let observed = Observed { me: &me, leading: self.lead.is_some(), lease: seen.as_ref(), unchanged };
        match plan(&observed) {
            Step::Create => self.write(None, seen.as_ref(), true).await?,
            Step::Take => self.write(found, seen.as_ref(), true).await?,
            Step::Renew => {
                self.write(found, seen.as_ref(), false).await?;
                return Ok(self.environment.jitter(RENEW_EVERY));
            }
            Step::StandDown => {
                self.stand_down("somebody else holds the Lease").await;
                return Ok(self.environment.jitter(LOOK_EVERY));
            }
            Step::Wait(pause) => return Ok(self.environment.jitter(pause)),
        }
        if self.lead.is_none() {
            let epoch = self.raise().await?;
            self.begin(epoch, shutdown);
        }
        Ok(self.environment.jitter(RENEW_EVERY))
    }

    /// Returns for how long the leader has written nothing new.
    fn note(&mut self, seen: Option<&Seen>) -> Duration {
        let Some(seen) = seen else {
            self.last = None;
            return Duration::ZERO;
        };
        let content = (seen.holder.clone(), seen.renewed.clone());
        match &self.last {
            Some((known, since)) if *known == content => since.elapsed(),
            _ => {
                self.last = Some((content, Instant::now()));
                Duration::ZERO
            }
        }
    }

    async fn read(&self) -> Result<Option<Lease>, Failure> {
        timely(self.leases.get_opt(LEASE_NAME)).await
    }

    /// Writes the Lease with ourselves as its holder, over the state that was read.
    async fn write(&self, found: Option<Lease>, seen: Option<&Seen>, taking: bool) -> Result<(), Failure> {
        let now = MicroTime::from(self.environment.now());
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
            spec: None,
        });
        let is_new = lease.metadata.resource_version.is_none();
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if taking {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(seen.map_or(0, |seen| seen.transitions.saturating_add(1)));
        }
        spec.holder_identity = Some(self.election.identity.clone());
        spec.lease_duration_seconds = i32::try_from(LEASE.as_secs()).ok();
        spec.renew_time = Some(now);
        if is_new {
            timely(self.leases.create(&PostParams::default(), &lease)).await.map(drop)
        } else {
            timely(self.leases.replace(LEASE_NAME, &PostParams::default(), &lease)).await.map(drop)
        }
    }

    /// Raises the fence: from now on every earlier leader's write is refused.
    async fn raise(&self) -> Result<u64, Failure> {
        let request = http::Request::post(format!("/drover/v1/fences/{FENCE}")).body(Vec::new());
        let request = request.map_err(Failure::Build)?;
        timely(self.client.request::<Raised>(request)).await.map(|raised| raised.epoch)
    }

    fn begin(&mut self, epoch: u64, shutdown: &CancellationToken) {
        let (stop, lost) = (shutdown.child_token(), CancellationToken::new());
        let client = FencedClient::wrap(self.client.clone(), FENCE, epoch, lost.clone());
        tracing::info!(leader.identity = %self.election.identity, leader.epoch = epoch, "leading the controllers");
        let controllers = tokio::spawn((self.term)(client, stop.clone()));
        self.lead = Some(Lead { stop, lost, controllers });
    }

    /// Ends the term, and returns when no pass is under way any more.
    async fn stand_down(&mut self, why: &str) {
        let Some(lead) = self.lead.take() else { return };
        tracing::warn!(leader.identity = %self.election.identity, why, "no longer leading the controllers");
        lead.stop.cancel();
        if lead.controllers.await.is_err() {
            tracing::error!("the controllers panicked at their end");
        }
    }

    /// Leaves properly: the next leader need not wait for the Lease to run out.
    async fn resign(mut self) {
        let Some(lead) = self.lead.take() else { return };
        lead.stop.cancel();
        if lead.controllers.await.is_err() {
            tracing::error!("the controllers panicked at their end");
        }
        let Ok(Some(mut lease)) = self.read().await else { return };
        let ours = seen(&lease).holder == self.election.identity;
        if let Some(spec) = lease.spec.as_mut().filter(|_| ours) {
            spec.holder_identity = Some(String::new());
            let written = timely(self.leases.replace(LEASE_NAME, &PostParams::default(), &lease)).await;
            tracing::info!(resigned = written.is_ok(), "left the lead of the controllers");
        }
    }
}

/// Bounds a request: nothing in the election may wait for a server that hangs.
async fn timely<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(Failure::Request),
        Err(_) => Err(Failure::TimedOut),
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let time = |time: Option<MicroTime>| time.map(|time| Timestamp::to_string(&time.0)).unwrap_or_default();
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: format!("{}/{}", time(spec.acquire_time), time(spec.renew_time)),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}
