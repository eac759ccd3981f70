//! The one way in: every request, from a socket or in-process, passes here in the same order.
//!
//! Read it canonically, find out who asks, check that they may, hand it to the part that answers, count it. Owns that
//! order and the words of 401 and 403; answers nothing itself.

mod answer;
mod dispatch;
mod fairness;
mod identify;
mod impersonate;
mod long_running;
mod message;
mod trail;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use drover_api::status::ApiError;
use futures::future::BoxFuture;
use http::{HeaderValue, header};
use tokio_util::sync::CancellationToken;

pub(crate) use answer::{error as error_response, json as json_response, text as text_response};
pub(crate) use fairness::Fairness;
pub(crate) use identify::Identities;
pub(crate) use long_running::Grant;
pub(crate) use trail::Peer;
use trail::Trail;

use crate::{
    administration::Administration,
    audit::Audit,
    authz::{Attributes, Authorizer},
    discovery::Discovery,
    fence,
    health::Health,
    join::Joins,
    metrics::{Requests, Usage},
    reach,
    registry::Registry,
    request::{RequestInfo, User},
    restore::Restores,
    reviews::Reviews,
    servers::Servers,
    streams::Streams,
    tokens::Tokens,
};

/// The body of requests and responses.
pub(crate) type Body = axum::body::Body;
/// A request as every part gets it.
pub(crate) type Request = http::Request<Body>;
/// A response as every part gives it.
pub(crate) type Response = http::Response<Body>;
/// Answers requests for objects. The REST side of the registry, or a fake of it.
pub(crate) type Resources = Arc<dyn Fn(User, RequestInfo, Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// Largest request body, as Kubernetes has it: 3 MiB.
pub(crate) const BODY_BYTES_MAX: u64 = 3 << 20;
/// An answer that is not a watch or a stream must be on its way within this time (CIS 1.2.20).
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is at the other end, as far as the transport knows.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A TLS connection and the user its client certificate names.
    Connection(Option<Arc<User>>),
    /// A component of this process, whose identity nothing in the request can change.
    Local(Arc<User>),
}

/// Everything a request can reach.
pub(crate) struct Front {
    pub(crate) identities: Arc<Identities>,
    pub(crate) fairness: Fairness,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) health: Arc<Health>,
    pub(crate) discovery: Discovery,
    pub(crate) resources: Resources,
    pub(crate) streams: Streams,
    pub(crate) reviews: Reviews,
    pub(crate) usage: Usage,
    pub(crate) requests: Requests,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) restores: Restores,
    /// The other servers; `None` where there can be none.
    pub(crate) servers: Option<Arc<Servers>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) audit: Audit,
    pub(crate) administration: Administration,
    /// Lets nodes in; `None` for a server without keys.
    pub(crate) joins: Option<Arc<Joins>>,
}

impl Front {
    /// Answers one request.
    pub(crate) async fn serve(self: Arc<Self>, caller: Caller, request: Request) -> Response {
        let started = Instant::now();
        let uri = request.uri();
        let info = RequestInfo::parse(request.method(), uri.path(), uri.query());
        // Servers ask each other several times a second: that is no request of a user, and fills no audit log.
        if let (Ok(info), Some(servers)) = (&info, &self.servers)
            && Servers::serves(info)
        {
            let answer = servers.answer(&caller, info, request).await;
            return answer.unwrap_or_else(|error| error_response(&error));
        }
        let trail = Trail::start(self.registry.environment(), &request);
        let claim = fence::claimed(request.headers());
        let mut reason = None;
        // Boxed, as what answers it below: each scope around a future moves and keeps it twice.
        let answer = Box::pin(async {
            let answer = self.answer((&caller, &trail), &info, request).await;
            reason = answer.as_ref().err().map(|error| error.reason.to_string());
            answer.unwrap_or_else(|error| error_response(&error))
        });
        let mut response = fence::scope(claim, error_response, answer).await;
        self.requests.observe(info.as_ref().ok(), response.status().as_u16(), started.elapsed());
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(trail.id()) {
            headers.insert("audit-id", value);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        trail.end(&self.audit, self.registry.environment(), info.ok(), (&response, reason));
        response
    }

    async fn answer(
        &self,
        (caller, trail): (&Caller, &Trail),
        info: &Result<RequestInfo, ApiError>,
        request: Request,
    ) -> Result<Response, ApiError> {
        if let (Ok(info), Some(joins)) = (info, &self.joins)
            && Joins::serves(info)
        {
            return self.answer_joining(joins, trail, request).await;
        }
        let (parts, body) = request.into_parts();
        if matches!(caller, Caller::Connection(_)) {
            message::check(&parts)?;
        }
        let own = self.identities.authenticate(caller, &parts.headers)?;
        let Some(own) = own else { return self.answer_anonymous(info.as_ref().ok()) };
        trail.identified(&own, None);
        let identity = self.identities.act(own, &parts.headers)?;
        if identity.acting != identity.own {
            trail.identified(&identity.own, Some(&identity.acting));
        }
        let info = info.clone()?;
        self.authorizer.check(&identity.acting, &Attributes::of(&info))?;
        let request = Request::from_parts(parts, body);
        if !Restores::serves(&info) {
            check_length(&request)?;
        }
        let seat = self.fairness.enter(caller, &identity, &info).await?;
        Ok(seat.hold(self.answer_authorized(caller, identity.acting, info, request).await?))
    }

    /// Who joins has no identity yet: [`Joins`] finds out, from the token or the key, and tells the audit log.
    async fn answer_joining(&self, joins: &Joins, trail: &Trail, request: Request) -> Result<Response, ApiError> {
        let identified = |user: &User| trail.identified(user, None);
        let answer = Box::pin(joins.answer(request, &identified));
        tokio::time::timeout(REQUEST_TIMEOUT, answer).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Health and version are constants and tell nothing about the cluster; all else needs a name, even a request that
    /// makes no sense.
    fn answer_anonymous(&self, info: Option<&RequestInfo>) -> Result<Response, ApiError> {
        let info = info.filter(|info| matches!(info.verb, "get" | "head"));
        info.and_then(|info| self.health.anonymous(info)).ok_or_else(unauthorized)
    }

    async fn answer_authorized(
        &self,
        caller: &Caller,
        user: User,
        info: RequestInfo,
        request: Request,
    ) -> Result<Response, ApiError> {
        if !long_running::is(&info) {
            let asking = (user.clone(), info.clone());
            let answer = reach::scope(&asking.0, &asking.1, Box::pin(self.dispatch(user, info, request)));
            return tokio::time::timeout(REQUEST_TIMEOUT, answer).await.unwrap_or_else(|_| Err(timed_out()));
        }
        let credentials = (caller.clone(), identify::credentials(request.headers()));
        let grant = Arc::new(Grant::new(Arc::clone(&self.identities), credentials, &user, &info));
        let response = self.dispatch_stream(user, info, request, Arc::clone(&grant)).await?;
        Ok(grant.guard(response, self.shutdown.clone()))
    }
}

/// 401 in Kubernetes' words.
pub(crate) fn unauthorized() -> ApiError {
    ApiError::new(401, "Unauthorized", "Unauthorized")
}

/// 413 in Kubernetes' words.
pub(crate) fn too_large() -> ApiError {
    ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {BODY_BYTES_MAX}"))
}

fn timed_out() -> ApiError {
    ApiError::new(504, "Timeout", format!("Timeout: request did not complete within {}s", REQUEST_TIMEOUT.as_secs()))
}

/// Refuses a body that says it is too large before any of it is read. Whoever reads a body bounds it as well.
fn check_length(request: &Request) -> Result<(), ApiError> {
    use http_body::Body as _;
    if request.body().size_hint().lower() > BODY_BYTES_MAX { Err(too_large()) } else { Ok(()) }
}
