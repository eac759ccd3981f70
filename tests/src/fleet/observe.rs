//! What a fleet looks like to the oracles.

use std::time::Duration;

use anyhow::{Context, Result};
use drover_invariants::{Container, ContainerPhase, NodeView, World};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use super::{EngineContainer, Fleet};
use crate::world::list;

impl Fleet {
    /// Observes objects and engines. `quiet` says for how long nothing has been done to the cluster.
    ///
    /// # Errors
    /// When a server or an engine does not answer.
    pub async fn world(&self, quiet: Duration) -> Result<World> {
        let client = self.servers[0].client().await?;
        let mut world = World {
            now: jiff::Timestamp::now(),
            quiet_secs: quiet.as_secs_f64(),
            deployments: list(&client).await?,
            replica_sets: list(&client).await?,
            pods: list(&client).await?,
            services: list(&client).await?,
            slices: list(&client).await?,
            budgets: list(&client).await?,
            claims: list(&client).await?,
            events: list(&client).await?,
            nodes: list(&client).await?,
            volumes: list(&client).await?,
            ..World::default()
        };
        for server in &self.servers {
            let containers = server.engine.containers().await?.into_iter().map(container).collect();
            world.hosts.insert(server.node(), NodeView { containers, ..NodeView::default() });
        }
        Ok(world)
    }

    /// Returns the pods with a label.
    ///
    /// # Errors
    /// When the first server does not answer.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        let api = Api::<Pod>::default_namespaced(self.servers[0].client().await?);
        Ok(api.list(&ListParams::default().labels(selector)).await.context("list pods")?.items)
    }
}

fn container(found: EngineContainer) -> Container {
    let phase = match found.state.as_str() {
        "created" => ContainerPhase::Created,
        "running" => ContainerPhase::Running,
        _ => ContainerPhase::Exited,
    };
    Container {
        attempt: found.attempt(),
        name: found.name,
        pod_uid: Some(found.pod_uid).filter(|uid| !uid.is_empty()),
        container: found.container,
        phase,
        starts: u32::from(phase != ContainerPhase::Created),
    }
}
