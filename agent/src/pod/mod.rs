//! The life of a pod: observe, plan, apply.
//!
//! [`plan`] decides, purely; one actor per pod carries out and never blocks another; [`routes`] says when Services
//! may send a pod traffic and when they have stopped. Nothing here restarts a container because the agent restarted.

pub mod observed;

pub mod action;
pub mod plan;
pub mod routes;

mod apply;
pub mod context;

mod actor;
mod engine_watch;
mod manager;
mod orphan;
mod unknown;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{context::Context, engine_watch::Fact, manager::Manager};
use crate::{
    config::Owner,
    engine::{Engine, ImageCache},
    source::Informer,
};

pub use apply::HostFiles;
pub use engine_watch::EngineHealth;

/// What the engine says, on its way to the pods.
#[derive(Debug)]
pub struct EngineFacts(mpsc::Receiver<Fact>);

/// Starts watching the engine; the facts go to [`spawn`].
pub fn watch_engine(
    engine: Arc<dyn Engine>,
    images: ImageCache,
    owner: &Owner,
    shutdown: &CancellationToken,
) -> (EngineHealth, EngineFacts) {
    let (health, facts) = engine_watch::spawn(engine, images, owner, shutdown);
    (health, EngineFacts(facts))
}

/// Starts running the pods of an informer; ends on `shutdown` and leaves every container as it is.
pub fn spawn(
    context: Arc<Context>,
    pods: Informer<Pod>,
    facts: EngineFacts,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(Manager::new(context, pods, shutdown).run(facts.0))
}

#[cfg(test)]
mod tests;
