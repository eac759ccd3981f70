//! What the audit log is told about one request: gathered while it is answered, handed over at the end.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use http::header;
use jiff::Timestamp;

use super::{Request, Response, long_running};
use crate::{
    audit::{Audit, Named, Record, Who, is_recorded},
    registry::Environment,
    request::{RequestInfo, User},
};

/// The address at the other end of a connection; a request's extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The trail of one request.
pub(super) struct Trail {
    id: String,
    received: Timestamp,
    who: Mutex<Who>,
}

impl Trail {
    pub(super) fn start(environment: &dyn Environment, request: &Request) -> Self {
        let agent = request.headers().get(header::USER_AGENT);
        let who = Who {
            source: request.extensions().get::<Peer>().map(|peer| peer.0),
            user_agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()).unwrap_or_default(),
            ..Who::default()
        };
        Self { id: environment.uid(), received: environment.now(), who: Mutex::new(who) }
    }

    /// The same as in the answer's `audit-id` header.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Says who asks, and whom they act as.
    pub(super) fn identified(&self, user: &User, impersonated: Option<&User>) {
        let mut who = self.who.lock().unwrap_or_else(PoisonError::into_inner);
        who.user = Some(user.clone());
        who.impersonated = impersonated.cloned();
    }

    /// Leaves the record, when the policy wants it.
    pub(super) fn end(
        self,
        audit: &Audit,
        environment: &dyn Environment,
        info: Option<RequestInfo>,
        (response, reason): (&Response, Option<String>),
    ) {
        let code = response.status().as_u16();
        let who = self.who.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !audit.is_on() || !is_recorded(&who, info.as_ref(), code) {
            return;
        }
        audit.record(Record {
            id: self.id,
            who,
            streams: code < 400 && info.as_ref().is_some_and(long_running::is),
            info,
            named: response.extensions().get::<Named>().map(|named| named.0.clone()),
            code,
            reason,
            at: (self.received, environment.now()),
        });
    }
}
