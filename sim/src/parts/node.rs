//! A node: the shipping agent over an engine, a kernel and a disk in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use drover_agent::{
    chance::Chance as AgentChance,
    clock::{Clock, Skew},
    engine::{ContainerPhase, ErrorKind, fake::Behaviour, fake::Effect, fake::Fault, fake::When},
    hollow::{Capacity, HollowConfig, HollowState, RoutesFrom},
};
use drover_apiserver::request::User;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    faults::{EngineTrouble, Part},
    transport::Transport,
    wire::Wire,
};

/// How long each call of a slow engine takes.
const SLOW_CALL: Duration = Duration::from_secs(3);
/// How long it takes to make a pod's name space: long enough for the pod to go meanwhile.
const MAKES_NAMESPACE: Duration = Duration::from_millis(30);
/// Images that every node's engine pulls, by tag, and what they do.
pub(crate) const IMAGES: [(&str, &str); 4] = [
    ("app:1", "well behaved"),
    ("app:2", "well behaved"),
    ("app:slow", "takes three seconds to stop"),
    ("app:crash", "ends with an error after two seconds"),
];

/// What of a node outlives its agent, and how to start one.
#[derive(Debug)]
pub(crate) struct Node {
    /// The Node's name.
    pub(crate) name: String,
    index: usize,
    /// Engine, kernel and disk.
    pub(crate) state: HollowState,
    clock: Clock,
    skew: Skew,
    chance: AgentChance,
}

impl Node {
    /// Builds the `index`-th node of a cluster.
    pub(crate) fn new(index: usize, clock: &Clock, chance: &Chance) -> Self {
        let skew = Skew::default();
        let clock = clock.skewed(&skew);
        let chance = AgentChance::seeded(chance.below(u64::MAX));
        let capacity = Capacity { cpus: 4, memory_bytes: 8 << 30, pods: 20 };
        let state = HollowState::new(&clock, &chance, capacity);
        state.network.set_delay(MAKES_NAMESPACE);
        for (image, _) in IMAGES {
            state.engine.add_registry_image(image, behaviour(image), Duration::from_millis(200));
        }
        Self { name: format!("n{index}"), index, state, clock, skew, chance }
    }

    /// Runs an agent until it is killed or told to stop.
    pub(crate) async fn run_agent(&self, wire: &Wire, shutdown: CancellationToken) {
        let life = wire.begin(Part::Agent(self.index));
        let user = User::new(format!("system:node:{}", self.name), &["system:nodes"]);
        let config = HollowConfig {
            client: Transport::new(wire.clone(), life, user).client(),
            node_name: self.name.clone(),
            address: Some(Ipv4Addr::new(192, 0, 2, u8::try_from(self.index + 1).unwrap_or(u8::MAX)).into()),
            labels: BTreeMap::new(),
            cluster_name: "sim".to_owned(),
            state: self.state.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            cluster_cidr: network("10.128.0.0/16"),
            service_cidr: network("10.96.0.0/16"),
            routes: RoutesFrom::Controllers,
        };
        if let Err(error) = drover_agent::hollow::run(config, shutdown).await {
            tracing::error!(node = self.name, %error, "the agent did not start");
        }
    }

    /// Returns where the node's table sends traffic of each Service port, `namespace/name:port`, as `IP:port`.
    pub(crate) fn routes(&self) -> BTreeMap<String, BTreeSet<String>> {
        let Some(table) = &self.state.table else { return BTreeMap::new() };
        let tables = table.applied().tables;
        let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for rule in tables.chains.values().flat_map(|chain| &chain.rules) {
            if let Some((service, endpoints)) = route(rule) {
                routes.entry(service).or_default().extend(endpoints);
            }
        }
        routes
    }

    /// Makes the node's clock jump; 0 puts it right.
    pub(crate) fn set_clock_offset(&self, secs: i64) {
        self.skew.set(SignedDuration::from_secs(secs));
    }

    /// Makes the engine fail from now on.
    pub(crate) fn trouble(&self, trouble: EngineTrouble) {
        let engine = &self.state.engine;
        let fault = |operation, effect| Fault { when: When::Every(operation), effect };
        match trouble {
            EngineTrouble::Fails(operation) => engine.inject(fault(operation, Effect::Fail(ErrorKind::Failed))),
            EngineTrouble::LosesReplies(operation) => engine.inject(fault(operation, Effect::TimeOutAfter)),
            EngineTrouble::Hangs(operation) => engine.inject(fault(operation, Effect::Hang)),
            EngineTrouble::LosesEvents => engine.lose_events(true),
            EngineTrouble::Slow => engine.set_latency(SLOW_CALL),
        }
    }

    /// The engine works again.
    pub(crate) fn heal(&self) {
        self.state.engine.heal();
        self.state.engine.lose_events(false);
        self.state.engine.set_latency(Duration::ZERO);
    }

    /// Ends one of the running containers; says whether there was one.
    pub(crate) fn end_container(&self, which: u64) -> bool {
        let containers = self.state.engine.containers();
        let running: Vec<&String> =
            containers.iter().filter(|(_, phase)| **phase == ContainerPhase::Running).map(|(name, _)| name).collect();
        let Some(chosen) = running.get(usize::try_from(which).unwrap_or(0) % running.len().max(1)) else {
            return false;
        };
        self.state.engine.exit(chosen, 1, which.is_multiple_of(4));
        true
    }
}

/// Reads one rule of the table: `… dnat ip to … map { 0 : 10.128.0.2 . 8080, … } comment "shop/web:http"`.
fn route(rule: &str) -> Option<(String, Vec<String>)> {
    let (_, rest) = rule.split_once(" dnat ip to ")?;
    let (_, rest) = rest.split_once("map {")?;
    let (elements, rest) = rest.split_once('}')?;
    let service = rest.split('"').nth(1)?.to_owned();
    let address = |element: &str| {
        let (_, target) = element.split_once(" : ")?;
        Some(target.trim().replace(" . ", ":"))
    };
    Some((service, elements.split(',').filter_map(address).collect()))
}

fn behaviour(image: &str) -> Behaviour {
    match image {
        "app:slow" => Behaviour { stops_after: Some(Duration::from_secs(3)), ..Behaviour::default() },
        "app:crash" => Behaviour { runs_for: Some(Duration::from_secs(2)), exit_code: 1, ..Behaviour::default() },
        _ => Behaviour::default(),
    }
}

fn network<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a constant that is a network")
}

#[cfg(test)]
mod tests {
    use super::route;

    #[test]
    fn a_rule_of_the_table_names_its_service_and_its_endpoints() {
        let rule = "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.128.0.2 . 8080, 1 : 10.128.4.2 . 8080 } comment \"shop/web:http\"";
        let endpoints = vec!["10.128.0.2:8080".to_owned(), "10.128.4.2:8080".to_owned()];
        assert_eq!(route(rule), Some(("shop/web:http".to_owned(), endpoints)));
        assert_eq!(route("ip daddr 10.128.0.2 accept"), None);
    }
}
