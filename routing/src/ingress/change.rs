//! The difference in servers, as commands of the Runtime API.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
};

use super::{config::CHECK, desired::Desired};

/// A bit of `srv_admin_state`: taken out by a command.
const FORCED_MAINTENANCE: u8 = 1;

/// The servers of a running HAProxy, by backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Those that get requests.
    pub serving: BTreeMap<String, BTreeSet<SocketAddrV4>>,
    /// Those that are taken out and not removed yet.
    pub leaving: BTreeMap<String, BTreeSet<SocketAddrV4>>,
}

impl Observed {
    /// Reads the answer to `show servers state`. Servers that are not named by their address are none of ours.
    pub fn read(answer: &str) -> Self {
        let mut observed = Self::default();
        for line in answer.lines().filter(|line| !line.starts_with('#')) {
            let mut fields = line.split_ascii_whitespace();
            let (backend, server, state) = (fields.nth(1), fields.nth(1), fields.nth(2));
            let server = server.and_then(|name| name.parse().ok());
            let Some((backend, server)) = backend.zip(server) else { continue };
            let state: u8 = state.and_then(|state| state.parse().ok()).unwrap_or_default();
            let side = if state & FORCED_MAINTENANCE == 0 { &mut observed.serving } else { &mut observed.leaving };
            side.entry(backend.to_owned()).or_default().insert(server);
        }
        observed
    }

    /// What is there once [`commands`] have been carried out.
    #[must_use]
    pub fn after(mut self, desired: &Desired) -> Self {
        for (name, served) in &desired.backends {
            let serving = self.serving.entry(name.clone()).or_default();
            let leaving = self.leaving.entry(name.clone()).or_default();
            leaving.extend(serving.difference(&served.servers));
            leaving.retain(|server| !served.servers.contains(server));
            serving.clone_from(&served.servers);
        }
        self
    }
}

/// Commands that bring the servers of the backends of `desired` to where they should be; additions come first, so that
/// nobody meets an empty backend in between. What is taken out is removed once nothing is attached to it.
pub fn commands(observed: &Observed, desired: &Desired) -> Vec<String> {
    let none = BTreeSet::new();
    let (mut additions, mut removals) = (Vec::new(), Vec::new());
    for (name, served) in &desired.backends {
        let serving = observed.serving.get(name).unwrap_or(&none);
        let leaving = observed.leaving.get(name).unwrap_or(&none);
        for server in served.servers.difference(serving) {
            if !leaving.contains(server) {
                additions.push(format!("add server {name}/{server} {server} {CHECK}"));
            }
            additions.push(format!("enable health {name}/{server}"));
            additions.push(format!("set server {name}/{server} state ready"));
        }
        removals.extend(
            serving.difference(&served.servers).map(|server| format!("set server {name}/{server} state maint")),
        );
    }
    if drover_api::mutants::active("E03-leave-before-others-come") {
        std::mem::swap(&mut additions, &mut removals);
    }
    additions.append(&mut removals);
    additions
}

/// Commands that remove what has been taken out; HAProxy refuses while something is attached.
pub fn cleanup(observed: &Observed, desired: &Desired) -> Vec<String> {
    let none = BTreeSet::new();
    let left = observed.leaving.iter().flat_map(|(name, servers)| {
        let wanted = desired.backends.get(name).map_or(&none, |served| &served.servers);
        servers.difference(wanted).map(move |server| format!("del server {name}/{server}"))
    });
    left.collect()
}
