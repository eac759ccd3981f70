//! One record and the line it becomes: `audit.k8s.io/v1` Event at level Metadata. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::request::{RequestInfo, User};

/// Longest text that is copied from a request; clients choose these.
const TEXT_MAX: usize = 1024;
/// Query keys whose values are left out: command lines carry passwords.
const SECRET_QUERY: [&str; 1] = ["command"];

/// Who a request turned out to come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    /// The authenticated user; `None` for a stranger.
    pub(crate) user: Option<User>,
    /// Whom they act as.
    pub(crate) impersonated: Option<User>,
    /// The peer's address; `None` for a part of this process.
    pub(crate) source: Option<IpAddr>,
    /// `User-Agent`.
    pub(crate) user_agent: String,
}

/// The name of the object that an answer is about, for requests that do not name it.
#[derive(Debug, Clone)]
pub(crate) struct Named(pub(crate) String);

/// One request and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The same as in the answer's `audit-id` header.
    pub(crate) id: String,
    /// Who asked.
    pub(crate) who: Who,
    /// What for; `None` for a request that could not be read.
    pub(crate) info: Option<RequestInfo>,
    /// Whether the answer goes on after its head.
    pub(crate) streams: bool,
    /// Name of the object in the answer.
    pub(crate) named: Option<String>,
    /// HTTP status.
    pub(crate) code: u16,
    /// The Status' reason, for an error.
    pub(crate) reason: Option<String>,
    /// When the request came and when its answer went.
    pub(crate) at: (Timestamp, Timestamp),
}

impl Record {
    /// Whether nobody knows who asked, and nothing was given to them.
    pub(super) fn is_stranger(&self) -> bool {
        self.who.user.is_none()
    }

    pub(super) fn received_secs(&self) -> i64 {
        self.at.0.as_second()
    }

    /// Writes the Event.
    pub(super) fn event(&self) -> Map<String, Value> {
        let Self { id, who, info, streams, named, code, reason, at: (received, finished) } = self;
        let mut event = Map::new();
        let mut set = |key: &str, value: Value| drop(event.insert(key.to_owned(), value));
        set("kind", "Event".into());
        set("apiVersion", "audit.k8s.io/v1".into());
        set("level", "Metadata".into());
        set("auditID", id.as_str().into());
        set("stage", if *streams { "ResponseStarted" } else { "ResponseComplete" }.into());
        set("requestURI", info.as_ref().map_or_else(String::new, uri).into());
        set("verb", info.as_ref().map_or("", |info| info.verb).into());
        set("user", who.user.as_ref().map_or_else(|| user(&User::anonymous()), user));
        if let Some(impersonated) = &who.impersonated {
            set("impersonatedUser", user(impersonated));
        }
        set("sourceIPs", who.source.iter().map(IpAddr::to_string).collect());
        set("userAgent", bounded(&who.user_agent).into());
        if let Some(info) = info.as_ref().filter(|info| info.is_resource) {
            set("objectRef", object(info, named.as_deref()));
        }
        let mut status = json!({"code": code});
        if let Some(reason) = reason {
            status["reason"] = bounded(reason).into();
        }
        set("responseStatus", status);
        set("requestReceivedTimestamp", micro(*received));
        set("stageTimestamp", micro(*finished));
        event
    }
}

fn user(user: &User) -> Value {
    let mut value = json!({"username": bounded(&user.name), "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = bounded(&user.uid).into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

fn object(info: &RequestInfo, named: Option<&str>) -> Value {
    let mut value = json!({"resource": info.resource, "apiVersion": info.api_version});
    let name = if info.name.is_empty() { named.unwrap_or_default() } else { &info.name };
    let parts = [
        ("apiGroup", info.api_group.as_str()),
        ("namespace", &info.namespace),
        ("name", name),
        ("subresource", &info.subresource),
    ];
    for (key, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
        value[key] = bounded(part).into();
    }
    value
}

/// The canonical path and query, without the values that may be secret.
fn uri(info: &RequestInfo) -> String {
    let pairs: Vec<String> = info
        .query
        .iter()
        .map(
            |(key, value)| {
                if SECRET_QUERY.contains(&key.as_str()) { format!("{key}=…") } else { format!("{key}={value}") }
            },
        )
        .collect();
    let whole = if pairs.is_empty() { info.path.clone() } else { format!("{}?{}", info.path, pairs.join("&")) };
    bounded(&whole).to_owned()
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

/// `metav1.MicroTime`.
fn micro(time: Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into()
}
