//! How much of the server one user may have at once.
//!
//! Every user has seats of their own: a request takes one, an expensive one several, until its answer has been sent.
//! Who has no seat left waits in their own queue, and beyond that is told 429; nobody else waits for them. Heartbeats
//! and the components of this process take no seat, so that no flood can make a node look dead (faults A12, A16).

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use drover_api::status::ApiError;
use http_body::{Frame, SizeHint};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Body, Caller, Response, identify::Identity, long_running};
use crate::{
    authz::MASTERS,
    request::{RequestInfo, User},
};

/// Enough writers for the store to commit in groups, few enough that two cores serve them within a second.
const SEATS: usize = 256;
/// What a list costs: it may touch every object of a kind.
const LIST_SEATS: u32 = 8;
/// Requests of a user that wait for a seat; client-go sends at most a few hundred at once.
const WAITING_MAX: usize = 512;
/// Streams of a user: a controller has one for each kind, a dashboard a few for each pod it shows.
const STREAMS_MAX: usize = 1000;
/// Administrators and nodes carry the cluster's own load: a fleet of thousands may come in under one name.
const TRUSTED_FACTOR: usize = 32;
/// Clients give up on an answer soon after; a late one helps nobody.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shares of users who have nothing going are dropped beyond this number.
const SHARES_KEPT: usize = 256;

/// Every user's share.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    shares: Mutex<HashMap<String, Arc<Share>>>,
}

#[derive(Debug)]
struct Share {
    seats: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// What a request holds until its answer has been sent. `None`: nothing.
#[derive(Debug)]
pub(super) struct Seat(Option<(OwnedSemaphorePermit, Arc<Share>)>);

impl Fairness {
    /// Takes what the request needs of its user's share, waiting for it if need be. Cancel-safe: a dropped wait has
    /// taken nothing.
    ///
    /// # Errors
    /// 429 when the user has too much going already.
    pub(super) async fn enter(
        &self,
        caller: &Caller,
        Identity { own, acting }: &Identity,
        info: &RequestInfo,
    ) -> Result<Seat, ApiError> {
        if is_exempt(caller, acting, info) {
            return Ok(Seat(None));
        }
        let share = self.share(own);
        let permit = if long_running::is(info) { share.stream()? } else { share.seats(cost(info)).await? };
        Ok(Seat(Some((permit, share))))
    }

    fn share(&self, user: &User) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&user.name) {
            return Arc::clone(share);
        }
        if shares.len() >= SHARES_KEPT {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Share::of(user));
        shares.insert(user.name.clone(), Arc::clone(&share));
        share
    }
}

impl Share {
    fn of(user: &User) -> Self {
        let factor = if user.in_group(MASTERS) || user.in_group("system:nodes") { TRUSTED_FACTOR } else { 1 };
        Self {
            seats: Arc::new(Semaphore::new(SEATS)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX * factor)),
            waiting: AtomicUsize::new(0),
            waiting_max: WAITING_MAX * factor,
        }
    }

    fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| too_many("watches and streams"))
    }

    async fn seats(&self, cost: u32) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(permit) = Arc::clone(&self.seats).try_acquire_many_owned(cost) {
            return Ok(permit);
        }
        let place = Waiting::take(self).ok_or_else(|| too_many("requests"))?;
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.seats).acquire_many_owned(cost)).await;
        drop(place);
        permit.ok().and_then(Result::ok).ok_or_else(|| too_many("requests"))
    }
}

/// A place in the queue, given back however the wait ends.
struct Waiting<'a>(&'a Share);

impl<'a> Waiting<'a> {
    fn take(share: &'a Share) -> Option<Self> {
        let place = Self(share);
        // Counted before it is judged: two who come at once cannot both take the last place.
        (share.waiting.fetch_add(1, Ordering::AcqRel) < share.waiting_max).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Seat {
    /// Keeps the seat until the answer has been sent, or its reader has gone.
    pub(super) fn hold(self, response: Response) -> Response {
        let Self(Some(held)) = self else { return response };
        response.map(|body| Body::new(Held { body, _held: held }))
    }
}

struct Held {
    body: Body,
    _held: (OwnedSemaphorePermit, Arc<Share>),
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Heartbeats and what belongs to this process: they are few, cheap, and a cluster without them falls apart.
fn is_exempt(caller: &Caller, user: &User, info: &RequestInfo) -> bool {
    if matches!(caller, Caller::Local(_)) {
        return true;
    }
    let lease = info.resource == "leases" && info.namespace == "kube-node-lease";
    let own_node = info.resource == "nodes" && matches!(info.subresource.as_str(), "status" | "tunnel");
    user.in_group("system:nodes") && info.verb != "list" && info.verb != "watch" && (lease || own_node)
}

fn cost(info: &RequestInfo) -> u32 {
    if matches!(info.verb, "list" | "deletecollection") { LIST_SEATS } else { 1 }
}

/// 429 in Kubernetes' words.
fn too_many(what: &str) -> ApiError {
    let text = format!("too many {what} of this user at once, please try again later");
    let mut error = ApiError::new(429, "TooManyRequests", text);
    error.details = json!({"retryAfterSeconds": 1});
    error
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http_body::Body as _;

    use super::*;

    fn info(method: &Method, path: &str) -> RequestInfo {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        RequestInfo::parse(method, path, query).unwrap()
    }

    fn socket() -> Caller {
        Caller::Connection(None)
    }

    fn own(user: &User) -> Identity {
        Identity { own: user.clone(), acting: user.clone() }
    }

    fn get() -> RequestInfo {
        info(&Method::GET, "/api/v1/namespaces/a/pods/p")
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_waits_then_is_told_so_and_hurts_only_itself() {
        let fairness = Arc::new(Fairness::default());
        let (flooder, other) = (User::new("flooder", &[]), User::new("other", &[]));
        let list = info(&Method::GET, "/api/v1/pods");
        let mut held = Vec::new();
        for _ in 0..SEATS / LIST_SEATS as usize {
            held.push(fairness.enter(&socket(), &own(&flooder), &list).await.unwrap());
        }
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let (fairness, flooder, list) = (Arc::clone(&fairness), flooder.clone(), list.clone());
                tokio::spawn(async move { fairness.enter(&socket(), &own(&flooder), &list).await.map(drop) })
            })
            .collect();
        while fairness.share(&flooder).waiting.load(Ordering::Acquire) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        let refused = fairness.enter(&socket(), &own(&flooder), &get()).await.unwrap_err();
        assert_eq!((refused.code, &refused.details["retryAfterSeconds"]), (429, &json!(1)));
        assert!(fairness.enter(&socket(), &own(&other), &list).await.is_ok(), "others have their own seats");
        drop(held);
        for wait in waiting {
            assert!(wait.await.unwrap().is_ok(), "who waited got a seat");
        }
        assert!(fairness.enter(&socket(), &own(&flooder), &get()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_so_and_leaves_the_queue() {
        let fairness = Fairness::default();
        let user = User::new("u", &[]);
        let mut held = Vec::new();
        for _ in 0..SEATS {
            held.push(fairness.enter(&socket(), &own(&user), &get()).await.unwrap());
        }
        assert_eq!(fairness.enter(&socket(), &own(&user), &get()).await.map(drop).unwrap_err().code, 429);
        assert_eq!(fairness.share(&user).waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn streams_are_counted_apart_and_refused_at_once() {
        let fairness = Fairness::default();
        let (user, watch) = (User::new("u", &[]), info(&Method::GET, "/api/v1/pods?watch=1"));
        let mut held = Vec::new();
        for _ in 0..STREAMS_MAX {
            held.push(fairness.enter(&socket(), &own(&user), &watch).await.unwrap());
        }
        assert_eq!(fairness.enter(&socket(), &own(&user), &watch).await.map(drop).unwrap_err().code, 429);
        assert!(fairness.enter(&socket(), &own(&user), &get()).await.is_ok());
        held.pop();
        assert!(fairness.enter(&socket(), &own(&user), &watch).await.is_ok());
    }

    #[tokio::test]
    async fn heartbeats_and_our_own_parts_take_no_seat() {
        let fairness = Fairness::default();
        let node = User::new("system:node:n1", &["system:nodes"]);
        let heartbeats = [
            info(&Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"),
            info(&Method::PATCH, "/api/v1/nodes/n1/status"),
        ];
        for heartbeat in heartbeats {
            assert!(fairness.enter(&socket(), &own(&node), &heartbeat).await.unwrap().0.is_none());
            let claims = User::new("system:node:n1", &[]);
            assert!(
                fairness.enter(&socket(), &own(&claims), &heartbeat).await.unwrap().0.is_some(),
                "the name is nothing"
            );
        }
        let local = Caller::Local(Arc::new(node.clone()));
        assert!(fairness.enter(&local, &own(&node), &get()).await.unwrap().0.is_none());
        assert!(fairness.enter(&socket(), &own(&node), &get()).await.unwrap().0.is_some());
    }

    #[tokio::test]
    async fn a_seat_is_held_until_the_answer_is_gone_and_shares_do_not_pile_up() {
        let fairness = Fairness::default();
        for number in 0..SHARES_KEPT * 3 {
            let user = User::new(format!("u{number}"), &[]);
            drop(fairness.enter(&socket(), &own(&user), &get()).await.unwrap());
        }
        assert!(fairness.shares.lock().unwrap().len() <= SHARES_KEPT);
        let user = User::new("u", &[]);
        let seat = fairness.enter(&socket(), &own(&user), &get()).await.unwrap();
        let response = seat.hold(Response::new(Body::from("x")));
        assert_eq!(response.body().size_hint().exact(), Some(1), "the length is still known");
        let share = fairness.share(&user);
        assert_eq!(share.seats.available_permits(), SEATS - 1);
        drop(response);
        assert_eq!(share.seats.available_permits(), SEATS);
    }
}
