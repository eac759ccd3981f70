//! `/livez`, `/readyz`, `/healthz` and `/version`.
//!
//! The only answers without credentials; those are constants. `?verbose` names each check and needs a user.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::{
    front::{Response, json_response, text_response},
    reach::Reach,
    request::RequestInfo,
};

/// What this server says it is. The minor version is a plain number because clients parse it.
const GIT_VERSION: &str = "v1.33.0+drover";

/// Paths that are answered without credentials.
pub(crate) const CONSTANTS: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];

/// Whether the server may be sent requests.
#[derive(Debug, Default)]
pub(crate) struct Health {
    ready: AtomicBool,
    leaving: AtomicBool,
    /// A store that may be cut off; unset for one that is in this process.
    store: OnceLock<Reach>,
}

impl Health {
    /// Everything that must precede the first request has happened.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Has the store's state count from now on.
    pub(crate) fn set_store(&self, reach: Reach) {
        // A server has one store; a second call would not change which.
        _ = self.store.set(reach);
    }

    fn store_answers(&self) -> bool {
        self.store.get().is_none_or(|reach| reach.silence().is_none())
    }

    /// The server is shutting down.
    pub(crate) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Answers without credentials; `None` for anything but the constants.
    pub(crate) fn anonymous(&self, info: &RequestInfo) -> Option<Response> {
        match info.path.as_str() {
            "/livez" => Some(text_response(200, "ok")),
            "/readyz" | "/healthz" if self.is_ready() => Some(text_response(200, "ok")),
            "/readyz" | "/healthz" => Some(text_response(500, "not ready")),
            "/version" => Some(json_response(200, &version())),
            _ => None,
        }
    }

    /// Answers a user; `None` for paths that are not about health.
    pub(crate) fn authenticated(&self, info: &RequestInfo) -> Option<Response> {
        let check = info.path.trim_start_matches('/');
        if matches!(check, "livez" | "readyz" | "healthz") && info.query("verbose").is_some() {
            return Some(self.verbose(check));
        }
        self.anonymous(info)
    }

    fn verbose(&self, check: &str) -> Response {
        let started = self.ready.load(Ordering::Acquire);
        let staying = !self.leaving.load(Ordering::Acquire);
        let checks =
            [("ping", true), ("start-bootstrap", started), ("store", self.store_answers()), ("shutdown", staying)];
        let relevant = |name: &str| check != "livez" || name == "ping";
        let mut text = String::new();
        let mut passed = true;
        for (name, good) in checks.into_iter().filter(|(name, _)| relevant(name)) {
            passed &= good;
            text += &if good { format!("[+]{name} ok\n") } else { format!("[-]{name} failed\n") };
        }
        text += &format!("{check} check {}\n", if passed { "passed" } else { "failed" });
        text_response(if passed { 200 } else { 500 }, text)
    }

    /// Whether requests are welcome.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.leaving.load(Ordering::Acquire) && self.store_answers()
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// The architecture in Go's words, which is what clients compare with.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
