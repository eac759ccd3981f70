//! The state of the engine in memory.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Behaviour, Effect, Fault, Weather, When};
use crate::{
    engine::{ContainerDetails, ContainerPhase, ContainerSummary, EngineInfo, ImageSummary, VolumeDetails, normalise},
    ids::ContainerId,
};

#[derive(Debug)]
pub(super) struct World {
    pub(super) containers: BTreeMap<ContainerId, FakeContainer>,
    pub(super) images: BTreeMap<String, FakeImage>,
    pub(super) registry: BTreeMap<String, (Behaviour, Duration)>,
    pub(super) volumes: BTreeMap<String, VolumeDetails>,
    pub(super) execs: BTreeMap<String, i64>,
    pub(super) faults: Vec<Fault>,
    pub(super) lose_events: bool,
    pub(super) latency: Duration,
    pub(super) start_latency: Duration,
    pub(super) calls: Vec<String>,
    pub(super) calls_count: usize,
    pub(super) starts: BTreeMap<String, u32>,
    pub(super) weather: Weather,
    pub(super) down: bool,
    pub(super) info: EngineInfo,
    /// What a pull of an image that the registry does not name brings.
    pub(super) any_image: Option<(Behaviour, Duration)>,
    pub(super) unrecorded: bool,
    next_id: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            registry: BTreeMap::new(),
            volumes: BTreeMap::new(),
            execs: BTreeMap::new(),
            faults: Vec::new(),
            lose_events: false,
            latency: Duration::ZERO,
            start_latency: Duration::ZERO,
            calls: Vec::new(),
            calls_count: 0,
            starts: BTreeMap::new(),
            weather: Weather::default(),
            down: false,
            info: EngineInfo {
                id: "fake".to_owned(),
                version: "20.10.0".to_owned(),
                architecture: "x86_64".to_owned(),
                os: "linux".to_owned(),
                cpus: 4,
                memory_bytes: 8 << 30,
                ..Default::default()
            },
            any_image: None,
            unrecorded: false,
            next_id: 0,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct FakeContainer {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) phase: ContainerPhase,
    pub(super) image_id: String,
    pub(super) behaviour: Behaviour,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) exit_code: i64,
    pub(super) oom_killed: bool,
    pub(super) error: String,
    /// Counts starts, so that the timer of an earlier run does not end a later one.
    pub(super) run: u32,
}

#[derive(Debug, Clone)]
pub(super) struct FakeImage {
    pub(super) id: String,
    pub(super) behaviour: Behaviour,
}

impl World {
    pub(super) fn add_image(&mut self, image: &str, behaviour: Behaviour) {
        self.next_id += 1;
        let id = format!("sha256:{:064x}", self.next_id);
        self.images.insert(normalise(image), FakeImage { id, behaviour });
    }

    /// A number that no container, image or exec has yet.
    pub(super) fn fresh_number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn fresh_id(&mut self, salt: u64) -> ContainerId {
        self.next_id += 1;
        let text = format!("{salt:016x}{:048x}", self.next_id);
        ContainerId::new(&text).expect("64 hexadecimal digits")
    }

    pub(super) fn image(&self, reference: &str) -> Option<(&String, &FakeImage)> {
        let full = normalise(reference);
        self.images.iter().find(|(name, image)| **name == full || image.id == reference)
    }

    pub(super) fn image_summaries(&self) -> Vec<ImageSummary> {
        let summary = |(name, image): (&String, &FakeImage)| ImageSummary {
            id: image.id.clone(),
            tags: vec![name.clone()],
            digests: Vec::new(),
            size_bytes: 1,
        };
        self.images.iter().map(summary).collect()
    }

    pub(super) fn find(&self, id_or_name: &str) -> Option<&FakeContainer> {
        self.containers.values().find(|container| container.id.as_str() == id_or_name || container.name == id_or_name)
    }

    pub(super) fn add_foreign(&mut self, name: &str, labels: BTreeMap<String, String>, now: Timestamp) {
        let id = self.fresh_id(0);
        let container = FakeContainer {
            id: id.clone(),
            name: name.to_owned(),
            labels,
            phase: ContainerPhase::Running,
            image_id: "sha256:foreign".to_owned(),
            behaviour: Behaviour::default(),
            started_at: Some(now),
            finished_at: None,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            run: 1,
        };
        self.containers.insert(id, container);
    }

    /// Ends every process at once, as the host's end does.
    pub(super) fn end_all(&mut self, now: Timestamp) {
        for container in self.containers.values_mut().filter(|container| container.phase == ContainerPhase::Running) {
            container.phase = ContainerPhase::Exited;
            container.exit_code = 255;
            container.finished_at = Some(now);
        }
    }

    /// Counts a call and returns its number with the effect of the fault that strikes it.
    pub(super) fn count(&mut self, operation: &'static str, subject: &str, changes: bool) -> (usize, Option<Effect>) {
        let number = self.calls_count;
        if changes {
            self.calls_count += 1;
            if !self.unrecorded {
                self.calls.push(format!("{operation} {subject}"));
            }
        }
        let strikes = |fault: &Fault| match fault.when {
            When::Call(wanted) => changes && wanted == number,
            When::Next(wanted) | When::Every(wanted) => wanted == operation,
        };
        let index = self.faults.iter().position(strikes);
        let effect = index.and_then(|index| {
            let fault = self.faults.get(index)?;
            let effect = fault.effect.clone();
            if !matches!(fault.when, When::Every(_)) {
                self.faults.remove(index);
            }
            Some(effect)
        });
        (number, effect)
    }
}

impl FakeContainer {
    pub(super) fn summary(&self) -> ContainerSummary {
        ContainerSummary {
            id: self.id.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            phase: self.phase,
            image_id: self.image_id.clone(),
        }
    }

    pub(super) fn details(&self) -> ContainerDetails {
        ContainerDetails {
            summary: self.summary(),
            pid: (self.phase == ContainerPhase::Running).then_some(1),
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            error: self.error.clone(),
        }
    }
}
