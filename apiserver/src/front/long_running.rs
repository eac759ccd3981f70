//! Watches and followed logs: they end with the server, and soon after the right to them does.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{Body, Caller, Identities, Response};
use crate::{
    authz::Attributes,
    request::{RequestInfo, User},
};

/// How often the right to a stream is checked again; revoked streams must end within 5 s.
const RECHECK_EVERY: Duration = Duration::from_secs(3);

/// Whether an answer may take as long as it likes.
pub(super) fn is(info: &RequestInfo) -> bool {
    if crate::restore::Restores::serves(info) {
        // As long as the file is: both sides only go as fast as the other one.
        return true;
    }
    const STREAMS: [&str; 5] = ["log", "exec", "attach", "portforward", "tunnel"];
    info.is_resource && (info.verb == "watch" || STREAMS.contains(&info.subresource.as_str()))
}

/// The right that a stream rests on: a credential that holds, and what it may do.
pub(crate) struct Grant {
    identities: Arc<Identities>,
    credentials: (Caller, HeaderMap),
    user: User,
    attributes: Attributes,
}

impl Grant {
    pub(super) fn new(
        identities: Arc<Identities>,
        credentials: (Caller, HeaderMap),
        user: &User,
        info: &RequestInfo,
    ) -> Self {
        Self { identities, credentials, user: user.clone(), attributes: Attributes::of(info) }
    }

    /// Resolves when the right is gone: the binding was taken away, or the token does not hold any more.
    pub(crate) async fn revoked(&self) {
        let mut ticks = interval_at(Instant::now() + RECHECK_EVERY, RECHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.holds() {
                return;
            }
        }
    }

    fn holds(&self) -> bool {
        let (caller, headers) = &self.credentials;
        let identity = self.identities.resolve(caller, headers).ok().flatten();
        let same = identity.is_some_and(|identity| identity.acting == self.user);
        same && self.identities.authorizer.check(&self.user, &self.attributes).is_ok()
    }

    /// Ends the body of `response` at shutdown or when the right is gone.
    pub(super) fn guard(self: Arc<Self>, response: Response, shutdown: CancellationToken) -> Response {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response; // Who took the connection over keeps the grant.
        }
        let over = async move {
            tokio::select! {
                () = shutdown.cancelled_owned() => {} // cancel-safe: a token stays cancelled
                () = self.revoked() => {} // cancel-safe: only a timer
            }
        };
        response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(over))))
    }
}
