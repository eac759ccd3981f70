//! The controllers: all of them, in each of several processes of which one leads.

use std::sync::Arc;

use drover_apiserver::request::User;
use drover_controllers::{Config, leader::Election, runtime::Environment};
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, clock::SimClock, faults::Part, transport::Transport, wire::Wire};

/// Runs the controllers until `shutdown`.
pub(super) async fn run_controllers(
    number: usize,
    wire: &Wire,
    clock: SimClock,
    chance: Chance,
    shutdown: CancellationToken,
) {
    let life = wire.begin(Part::Controllers(number));
    let user = User::new("system:drover:controllers", &["system:masters"]);
    let client = Transport::new(wire.clone(), life, user).client();
    let config = Config {
        election: Some(Election { identity: format!("c{number}") }),
        environment: Environment { clock: Arc::new(clock), random: Arc::new(chance) },
        // Published in every namespace, which pods wait for.
        ca_pem: "no authority: connections are simulated".to_owned(),
        // Eight simulated nodes at most, and small enough to be read.
        cluster_cidr: "10.128.0.0/16".to_owned(),
        node_prefix_len: 24,
        ..Config::all()
    };
    if let Err(error) = drover_controllers::run(client, config, shutdown).await {
        // The configuration above is a constant that works.
        tracing::error!(%error, "the controllers did not start");
    }
}
