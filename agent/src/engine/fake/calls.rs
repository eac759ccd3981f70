//! The calls of the engine in memory.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::{Effect, FakeEngine, world::FakeContainer};
use crate::{
    engine::{
        AttachOptions, Attached, CALL_DEADLINE, ContainerConfig, ContainerDetails, ContainerPhase, ContainerStats,
        ContainerSummary, Engine, EngineError, EngineEvent, EngineInfo, ErrorKind, EventKind, ExecConfig, ExecState,
        ImageDetails, ImageSummary, LogOptions, OutputChunk, PullProgress, RegistryAuth, VolumeDetails, VolumeRequest,
        normalise,
    },
    ids::ContainerId,
};

type Reply<T> = Result<T, EngineError>;

impl FakeEngine {
    /// Runs a call through latency and faults. The effect and its answer come from `act`.
    async fn call<T>(
        &self,
        operation: &'static str,
        subject: &str,
        changes: bool,
        act: impl FnOnce(&Self) -> Reply<T> + Send,
    ) -> Reply<T> {
        let latency = {
            let world = self.world();
            if operation == "start" { world.latency + world.start_latency } else { world.latency }
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let (number, struck) = self.world().count(operation, subject, changes);
        let effect = struck.or_else(|| self.weather(operation));
        if let Some(Effect::Delay(delay)) = effect {
            tokio::time::sleep(delay).await;
        }
        if self.world().down {
            return Err(EngineError::new(ErrorKind::Unavailable, operation, "the engine is down"));
        }
        match effect {
            None | Some(Effect::Delay(_)) => act(self),
            Some(Effect::Fail(kind)) => Err(EngineError::new(kind, operation, "injected")),
            Some(Effect::Hang) => self.never_answer(number, operation).await,
            Some(Effect::LoseReply) => {
                // Whether it worked is exactly what the caller will not learn.
                let _ = act(self);
                self.never_answer(number, operation).await
            }
            Some(Effect::TimeOutAfter) => {
                let _ = act(self);
                Err(EngineError::new(ErrorKind::Timeout, operation, "injected"))
            }
        }
    }

    /// What chance does to a call.
    fn weather(&self, operation: &'static str) -> Option<Effect> {
        let weather = self.world().weather.clone();
        let chance = &self.shared.chance;
        let failures = if operation == "pull" { weather.failed_pulls } else { weather.failures };
        if chance.happens(failures) {
            return Some(Effect::Fail(ErrorKind::Failed));
        }
        if chance.happens(weather.lost_replies) {
            return Some(Effect::LoseReply);
        }
        chance.happens(weather.delays).then(|| Effect::Delay(chance.spread(weather.delay_max, 0.0, 1.0)))
    }

    async fn never_answer<T>(&self, number: usize, operation: &'static str) -> Reply<T> {
        self.shared.struck.send_replace(Some(number));
        tokio::time::sleep(CALL_DEADLINE).await;
        Err(EngineError::new(ErrorKind::Timeout, operation, "the engine did not answer"))
    }

    fn emit(&self, kind: EventKind) {
        let (lose, lost) = {
            let world = self.world();
            (world.lose_events, world.weather.lost_events)
        };
        if !lose && !self.shared.chance.happens(lost) {
            let at = Some(self.shared.clock.now());
            // Nobody may be listening.
            let _ = self.shared.events.send(Some(EngineEvent { kind, at }));
        }
    }

    fn run(&self, id: &ContainerId) -> Reply<()> {
        let now = self.shared.clock.now();
        let (labels, timer) = {
            let mut world = self.world();
            let container = world.containers.get_mut(id).ok_or_else(|| no_such("start", id.as_str()))?;
            if container.phase == ContainerPhase::Running {
                return Ok(());
            }
            if let Some(words) = container.behaviour.start_error.clone() {
                container.error.clone_from(&words);
                container.exit_code = 127;
                return Err(EngineError::new(ErrorKind::Failed, "start", words));
            }
            container.phase = ContainerPhase::Running;
            container.started_at = Some(now);
            container.run += 1;
            let behaviour = container.behaviour.clone();
            let timer = behaviour.runs_for.map(|runs_for| (runs_for, behaviour, container.run));
            let (labels, name) = (container.labels.clone(), container.name.clone());
            if !world.unrecorded {
                *world.starts.entry(name).or_default() += 1;
            }
            (labels, timer)
        };
        self.emit(EventKind::Started { id: id.clone(), labels });
        if let Some((runs_for, behaviour, run)) = timer {
            let code = if behaviour.out_of_memory { 137 } else { behaviour.exit_code };
            self.end_later(id, runs_for, (code, behaviour.out_of_memory), run);
        }
        Ok(())
    }

    fn end_later(&self, id: &ContainerId, after: Duration, (code, oom): (i64, bool), run: u32) {
        let (engine, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            engine.end(&id, code, oom, Some(run));
        });
    }

    /// Ends a container's process, if it is still the given run.
    pub(super) fn end(&self, id: &ContainerId, exit_code: i64, oom_killed: bool, run: Option<u32>) {
        let now = self.shared.clock.now();
        let labels = {
            let mut world = self.world();
            let Some(container) = world.containers.get_mut(id) else { return };
            let other_run = run.is_some_and(|run| run != container.run);
            if container.phase != ContainerPhase::Running || other_run {
                return;
            }
            container.phase = ContainerPhase::Exited;
            container.exit_code = exit_code;
            container.oom_killed = oom_killed;
            container.finished_at = Some(now);
            container.labels.clone()
        };
        if oom_killed {
            self.emit(EventKind::OutOfMemory { id: id.clone(), labels: labels.clone() });
        }
        self.emit(EventKind::Died { id: id.clone(), labels, exit_code: Some(exit_code) });
    }

    fn create(&self, name: &str, config: &ContainerConfig) -> Reply<ContainerId> {
        let mut world = self.world();
        if world.find(name).is_some() {
            return Err(EngineError::new(ErrorKind::Conflict, "create", format!("name {name} is in use")));
        }
        let image = world.image(&config.image).map(|(_, image)| image.clone());
        let image = image.ok_or_else(|| {
            EngineError::new(ErrorKind::NoSuchImage, "create", format!("no such image: {}", config.image))
        })?;
        let id = world.fresh_id(self.shared.salt);
        let container = FakeContainer {
            id: id.clone(),
            name: name.to_owned(),
            labels: config.labels.clone(),
            phase: ContainerPhase::Created,
            image_id: image.id,
            behaviour: image.behaviour,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            run: 0,
        };
        world.containers.insert(id.clone(), container);
        Ok(id)
    }

    fn signal(&self, id: &ContainerId, signal: &str) -> Reply<()> {
        let (stops_after, run) = {
            let world = self.world();
            let container = world.containers.get(id).ok_or_else(|| no_such("kill", id.as_str()))?;
            if container.phase != ContainerPhase::Running {
                return Err(EngineError::new(ErrorKind::NotRunning, "kill", "container is not running"));
            }
            (container.behaviour.stops_after, container.run)
        };
        match (signal, stops_after) {
            ("SIGKILL", _) => self.end(id, 137, false, None),
            (_, Some(Duration::ZERO)) => self.end(id, 143, false, None),
            (_, Some(after)) => self.end_later(id, after, (143, false), run),
            (_, None) => {}
        }
        Ok(())
    }
}

fn no_such(operation: &'static str, what: &str) -> EngineError {
    EngineError::new(ErrorKind::NotFound, operation, format!("no such object: {what}"))
}

#[async_trait]
impl Engine for FakeEngine {
    async fn ping(&self) -> Reply<()> {
        self.call("ping", "", false, |_| Ok(())).await
    }

    async fn info(&self) -> Reply<EngineInfo> {
        self.call("info", "", false, |engine| Ok(engine.world().info.clone())).await
    }

    async fn create_container(&self, name: &str, config: &ContainerConfig) -> Reply<ContainerId> {
        self.call("create", name, true, |engine| engine.create(name, config)).await
    }

    async fn start_container(&self, id: &ContainerId) -> Reply<()> {
        self.call("start", id.as_str(), true, |engine| engine.run(id)).await
    }

    async fn kill_container(&self, id: &ContainerId, signal: &str) -> Reply<()> {
        let subject = format!("{id} {signal}");
        self.call("kill", &subject, true, |engine| engine.signal(id, signal)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Reply<()> {
        let act = |engine: &Self| {
            engine.end(id, 137, false, None);
            let gone = engine.world().containers.remove(id);
            if let Some(container) = gone {
                engine.emit(EventKind::Removed { id: id.clone(), labels: container.labels });
            }
            Ok(())
        };
        self.call("remove", id.as_str(), true, act).await
    }

    async fn list_containers(&self, labels: &[(String, String)]) -> Reply<Vec<ContainerSummary>> {
        let wanted =
            |container: &&FakeContainer| labels.iter().all(|(key, value)| container.labels.get(key) == Some(value));
        let act =
            |engine: &Self| Ok(engine.world().containers.values().filter(wanted).map(FakeContainer::summary).collect());
        self.call("list", "", false, act).await
    }

    async fn inspect_container(&self, id_or_name: &str) -> Reply<ContainerDetails> {
        let act = |engine: &Self| {
            let details = engine.world().find(id_or_name).map(FakeContainer::details);
            details.ok_or_else(|| no_such("inspect", id_or_name))
        };
        self.call("inspect", id_or_name, false, act).await
    }

    fn events(&self) -> BoxStream<'static, Reply<EngineEvent>> {
        let stream = BroadcastStream::new(self.shared.events.subscribe());
        if self.world().down {
            let down = EngineError::new(ErrorKind::Unavailable, "events", "the engine is down");
            return futures::stream::iter([Err(down)]).boxed();
        }
        let lagged = |lag: BroadcastStreamRecvError| EngineError::new(ErrorKind::Failed, "events", lag.to_string());
        let events = stream.map(move |event| event.map_err(lagged).transpose());
        events.take_while(|event| std::future::ready(event.is_some())).filter_map(std::future::ready).boxed()
    }

    fn pull_image(&self, image: &str, _auth: Option<RegistryAuth>) -> BoxStream<'static, Reply<PullProgress>> {
        let (engine, image) = (self.clone(), image.to_owned());
        let pull = async move {
            let (found, extra) = {
                let world = engine.world();
                let found = world.registry.get(&normalise(&image)).or(world.any_image.as_ref()).cloned();
                (found, world.weather.pull_delay_max)
            };
            let delay = found.as_ref().map(|(_, delay)| *delay).unwrap_or_default();
            let extra = if extra.is_zero() { extra } else { engine.shared.chance.spread(extra, 0.0, 1.0) };
            tokio::time::sleep(delay + extra).await;
            let act = |engine: &Self| match found {
                Some((behaviour, _)) => {
                    engine.add_image(&image, behaviour);
                    engine.emit(EventKind::ImagesChanged);
                    Ok(PullProgress { status: "Pull complete".to_owned(), ..Default::default() })
                }
                None => Err(EngineError::new(ErrorKind::PullDenied, "pull", format!("{image}: not found"))),
            };
            engine.call("pull", &image.clone(), true, act).await
        };
        futures::stream::once(pull).boxed()
    }

    async fn inspect_image(&self, image: &str) -> Reply<ImageDetails> {
        let act = |engine: &Self| {
            let world = engine.world();
            let (name, found) = world
                .image(image)
                .ok_or_else(|| EngineError::new(ErrorKind::NoSuchImage, "inspect image", "no such image"))?;
            let summary =
                ImageSummary { id: found.id.clone(), tags: vec![name.clone()], digests: Vec::new(), size_bytes: 1 };
            let (user, working_dir) = (found.behaviour.user.clone(), found.behaviour.working_dir.clone());
            Ok(ImageDetails { summary, user, working_dir, stop_signal: None })
        };
        self.call("inspect image", image, false, act).await
    }

    async fn list_images(&self) -> Reply<Vec<ImageSummary>> {
        self.call("list images", "", false, |engine| Ok(engine.world().image_summaries())).await
    }

    fn logs(&self, id: &ContainerId, _options: &LogOptions) -> BoxStream<'static, Reply<OutputChunk>> {
        let log = self.world().containers.get(id).map(|container| container.behaviour.log.clone());
        let chunk = log.map(|text| OutputChunk::Stdout(Bytes::from(text))).ok_or_else(|| no_such("logs", id.as_str()));
        futures::stream::iter([chunk]).boxed()
    }

    async fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Reply<Attached> {
        let log = self.logs(id, &LogOptions { follow: options.stdout, ..Default::default() });
        self.call("attach", id.as_str(), false, |_| Ok(Attached { output: log, input: Box::pin(tokio::io::sink()) }))
            .await
    }

    async fn resize_container(&self, id: &ContainerId, _width: u16, _height: u16) -> Reply<()> {
        self.call("resize", id.as_str(), false, |_| Ok(())).await
    }

    async fn create_exec(&self, id: &ContainerId, _config: &ExecConfig) -> Reply<String> {
        let act = |engine: &Self| {
            let mut world = engine.world();
            let container = world.containers.get(id).ok_or_else(|| no_such("exec", id.as_str()))?;
            if container.phase != ContainerPhase::Running {
                return Err(EngineError::new(ErrorKind::NotRunning, "exec", "container is not running"));
            }
            let code = container.behaviour.exec_code;
            let exec = format!("exec-{}", world.fresh_number());
            world.execs.insert(exec.clone(), code);
            Ok(exec)
        };
        self.call("exec", id.as_str(), false, act).await
    }

    async fn start_exec(&self, exec: &str, _tty: bool) -> Reply<Attached> {
        let attached = || Attached { output: futures::stream::empty().boxed(), input: Box::pin(tokio::io::sink()) };
        self.call("exec", exec, false, |_| Ok(attached())).await
    }

    async fn resize_exec(&self, exec: &str, _width: u16, _height: u16) -> Reply<()> {
        self.call("resize", exec, false, |_| Ok(())).await
    }

    async fn inspect_exec(&self, exec: &str) -> Reply<ExecState> {
        let act = |engine: &Self| {
            let mut world = engine.world();
            let code = world.execs.get(exec).copied().ok_or_else(|| no_such("exec", exec))?;
            if world.unrecorded {
                world.execs.remove(exec);
            }
            Ok(ExecState { running: false, exit_code: Some(code) })
        };
        self.call("exec", exec, false, act).await
    }

    async fn stats(&self, id: &ContainerId) -> Reply<ContainerStats> {
        self.call("stats", id.as_str(), false, |_| Ok(ContainerStats::default())).await
    }

    async fn create_volume(&self, request: &VolumeRequest) -> Reply<VolumeDetails> {
        let act = |engine: &Self| {
            let details = VolumeDetails {
                name: request.name.clone(),
                driver: request.driver.clone(),
                mountpoint: String::new(),
                labels: BTreeMap::clone(&request.labels),
            };
            Ok(engine.world().volumes.entry(request.name.clone()).or_insert(details).clone())
        };
        self.call("create volume", &request.name, true, act).await
    }

    async fn inspect_volume(&self, name: &str) -> Reply<VolumeDetails> {
        let act =
            |engine: &Self| engine.world().volumes.get(name).cloned().ok_or_else(|| no_such("inspect volume", name));
        self.call("inspect volume", name, false, act).await
    }

    async fn remove_volume(&self, name: &str) -> Reply<()> {
        let act = |engine: &Self| {
            engine.world().volumes.remove(name);
            Ok(())
        };
        self.call("remove volume", name, true, act).await
    }
}
