//! Probes of containers that have no network.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Probe;

use super::FakeEngine;
use crate::{
    engine::ContainerPhase,
    seams::{ProbeSubject, Prober},
};

/// Probes pass once the container has run for as long as its image needs ([`super::Behaviour::answers_after`]).
#[async_trait]
impl Prober for FakeEngine {
    async fn probe(&self, subject: ProbeSubject<'_>, _probe: &Probe, _limit: Duration) -> Result<(), String> {
        let now = self.shared.clock.now();
        let world = self.world();
        let container = world.containers.get(subject.id).filter(|found| found.phase == ContainerPhase::Running);
        let Some(container) = container else { return Err("connection refused".to_owned()) };
        let needs = container.behaviour.answers_after;
        let ran = container.started_at.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
        match (needs, ran) {
            (Some(needs), Some(ran)) if ran >= needs => Ok(()),
            (Some(Duration::ZERO), None) => Ok(()),
            (Some(_) | None, _) => Err("connection refused".to_owned()),
        }
    }
}
