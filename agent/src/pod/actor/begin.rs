//! Begins what the planner asks for: marks it as under way and spawns the step.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Actor, Outcome};
use crate::{
    ledger::{LedgerEntry, LedgerError},
    network::hostname,
    pod::{
        action::Action,
        apply::{StartRequest, clean_up, pull, run_hook, start},
        context::Context,
        observed::{Cause, Hook, Operation, Routes, Stage, Stop, Termination},
        plan::{after, pod_containers},
        routes::serving_ports,
    },
    seams::{HostPort, NetworkError, SandboxRequest, VolumeError},
};

/// Between two looks at the objects that volumes follow (the kubelet takes up to a minute and a half).
const REFRESH_SECS: i64 = 15;
/// A postStart hook that never ends holds its container back for ever, so it is given up (a container is not started
/// before it); Kubernetes has no bound of its own.
const POST_START_LIMIT: Duration = Duration::from_secs(600);

impl Actor {
    pub(super) fn begin(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::EnsureNetwork => self.begin_network(),
            Action::PrepareVolumes => self.begin_volumes(),
            Action::Pull { container, attempt } => self.begin_pull(&container, attempt),
            Action::Start { container, attempt } => self.begin_start(&container, attempt),
            Action::PostStart { container } => self.begin_hook(&container, true),
            Action::PreStop { container } => self.begin_hook(&container, false),
            Action::BeginStop { container, grace_secs, message } => {
                self.say(Some(&container), "Killing", &message);
                if let Some(state) = self.observed.containers.get_mut(&container) {
                    state.stop = Some(Stop { since: now, grace_secs, signalled_at: None, killed_at: None });
                }
            }
            Action::Terminate { container } => self.begin_signal(&container, false),
            Action::Kill { container } => self.begin_signal(&container, true),
            Action::Remove { container, attempt } => self.begin_remove(&container, attempt),
            Action::CountConnections => self.begin_count(),
            Action::CleanUp => {
                self.observed.cleanup.begin();
                let (context, uid) = (Arc::clone(&self.context), self.uid.clone());
                self.steps.spawn(async move { Outcome::CleanUp(clean_up(&context, &uid).await) });
            }
            Action::DeleteObject => {
                self.observed.object.begin();
                let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
                self.steps.spawn(async move { Outcome::DeleteObject(context.api.delete(&pod).await) });
            }
            Action::BeginDeadline => {
                let grace_secs =
                    self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
                let message = "Pod was active on the node longer than the specified deadline";
                self.warn(None, "DeadlineExceeded", message);
                self.observed.termination = Some(Termination {
                    since: now,
                    grace_secs,
                    cause: Cause::Deadline,
                    routes: Routes::None,
                    connections: None,
                    counted_at: None,
                    counting: false,
                });
            }
        }
    }

    fn begin_network(&mut self) {
        self.observed.network.begin();
        let meta = &self.pod.metadata;
        let request = SandboxRequest {
            pod: self.uid.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            hostname: hostname(&self.pod),
            host_ports: self.host_ports(),
        };
        let context = Arc::clone(&self.context);
        self.steps.spawn(async move {
            // Before anything is made: what a crash leaves behind must be known to be ours.
            if let Err(error) = enter_ledger(&context, &request).await {
                return Outcome::Network(Err(NetworkError { message: error.to_string() }));
            }
            Outcome::Network(context.network.ensure(&request).await)
        });
    }

    fn host_ports(&self) -> Vec<HostPort> {
        let containers = self.pod.spec.iter().flat_map(pod_containers);
        let ports = containers.flat_map(|container| container.spec.ports.iter().flatten());
        let number = |port: i32| u16::try_from(port).ok();
        ports
            .filter_map(|port| {
                Some(HostPort {
                    host_address: port
                        .host_ip
                        .as_deref()
                        .and_then(|ip| ip.parse().ok())
                        .filter(|ip: &std::net::Ipv4Addr| !ip.is_unspecified()),
                    host_port: port.host_port.and_then(number).filter(|port| *port > 0)?,
                    container_port: number(port.container_port)?,
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                })
            })
            .collect()
    }

    fn begin_volumes(&mut self) {
        self.observed.volumes.begin();
        let (context, pod, uid) = (Arc::clone(&self.context), Arc::clone(&self.pod), self.uid.clone());
        self.steps.spawn(async move {
            let meta = &pod.metadata;
            let entry = LedgerEntry {
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
            };
            if let Err(error) = context.ledger.enter(&uid, entry).await {
                let (reason, message) = ("FailedMount".to_owned(), error.to_string());
                return Outcome::Volumes(Err(VolumeError { reason, message, retry: true }));
            }
            Outcome::Volumes(context.volumes.prepare(&pod).await)
        });
    }

    /// Brings volumes that follow objects up to date, at intervals and when the pod's metadata changed.
    pub(super) fn refresh_volumes(&mut self, now: Timestamp) -> Option<Timestamp> {
        let ready = self.observed.volumes == Stage::Ready && self.observed.termination.is_none();
        if !ready || self.refreshing || !self.pod.spec.as_ref().is_some_and(follows_objects) {
            return None;
        }
        if let Some(at) = self.refresh_at.filter(|at| now < *at) {
            return Some(at);
        }
        let next = after(now, REFRESH_SECS);
        self.refresh_at = Some(next);
        self.refreshing = true;
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        self.steps.spawn(async move { Outcome::VolumesRefreshed(context.volumes.refresh(&pod).await) });
        Some(next)
    }

    fn begin_pull(&mut self, name: &str, attempt: u32) {
        let image = self.image_of(name);
        self.mark(name, Operation::Pull);
        self.say(Some(name), "Pulling", &format!("Pulling image {image:?}"));
        let (context, pod, container) = (Arc::clone(&self.context), Arc::clone(&self.pod), name.to_owned());
        let task = self.steps.spawn(async move {
            let result = pull(&context, &pod, &image).await;
            Outcome::Pull { container, attempt, result }
        });
        self.pulls.insert(name.to_owned(), task);
    }

    fn begin_start(&mut self, name: &str, attempt: u32) {
        let Some(container) = self.spec_of(name) else { return };
        self.mark(name, Operation::Start);
        let on_host = self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let request = StartRequest {
            pod: (*self.pod).clone(),
            uid: self.uid.clone(),
            container,
            attempt,
            sandbox: self.observed.sandbox.clone().filter(|_| !on_host),
            volumes: self.volumes.clone(),
        };
        let (context, container) = (Arc::clone(&self.context), name.to_owned());
        self.steps.spawn(async move {
            let result = Box::new(start(&context, &request).await);
            Outcome::Start { container, attempt, result }
        });
    }

    fn begin_hook(&mut self, name: &str, post_start: bool) {
        let Some(container) = self.spec_of(name) else { return };
        let address = self.address();
        let left = self.observed.termination.as_ref().map_or(30, |end| end.grace_secs).max(1);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let Some((id, attempt)) = state.current().map(|attempt| (attempt.id.clone(), attempt.number)) else { return };
        let lifecycle = container.lifecycle.clone().unwrap_or_default();
        let handler = if post_start { lifecycle.post_start } else { lifecycle.pre_stop };
        let Some(handler) = handler else { return };
        let grace = state.stop.as_ref().map_or(left, |stop| stop.grace_secs);
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let limit = if post_start { POST_START_LIMIT } else { limit };
        if post_start {
            state.post_start = Hook::Running;
        } else {
            state.pre_stop = Hook::Running;
        }
        let (context, name) = (Arc::clone(&self.context), name.to_owned());
        self.steps.spawn(async move {
            let result = run_hook(&context, &container, &id, address, &handler, limit).await;
            Outcome::Hook { container: name, attempt, post_start, result }
        });
    }

    fn begin_signal(&mut self, name: &str, kill: bool) {
        let own = self.spec_of(name).and_then(|spec| spec.lifecycle?.stop_signal);
        let image = self.image_of(name);
        let end = self.observed.termination.clone();
        let now = self.now();
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let Some(id) = state.current().map(|attempt| attempt.id.clone()) else { return };
        state.busy = Some(Operation::Signal);
        let since = end.as_ref().map_or(now, |end| end.since);
        let grace_secs = end.as_ref().map_or(30, |end| end.grace_secs);
        state.stop.get_or_insert(Stop { since, grace_secs, signalled_at: None, killed_at: None });
        if end.is_some() && !kill {
            self.say(Some(name), "Killing", &format!("Stopping container {name}"));
        }
        let (context, container) = (Arc::clone(&self.context), name.to_owned());
        self.steps.spawn(async move {
            let signal = match (kill, own) {
                (true, _) => "SIGKILL".to_owned(),
                (false, Some(signal)) => signal,
                (false, None) => image_signal(&context, &image).await,
            };
            let result = context.engine.kill_container(&id, &signal).await;
            Outcome::Signal { container, id, kill, result }
        });
    }

    fn begin_remove(&mut self, name: &str, attempt: u32) {
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let Some(id) = state.attempts.iter().find(|known| known.number == attempt).map(|known| known.id.clone()) else {
            return;
        };
        state.busy = Some(Operation::Remove);
        let (context, container) = (Arc::clone(&self.context), name.to_owned());
        self.steps.spawn(async move {
            let result = context.engine.remove_container(&id).await;
            if result.is_ok()
                && let Err(error) = context.network.unlink_container(&id).await
            {
                tracing::debug!(container.id = %id, %error, "a removed container's network entry stays");
            }
            Outcome::Remove { container, attempt, result }
        });
    }

    fn begin_count(&mut self) {
        let ports = serving_ports(&self.pod, &self.context.slices.list());
        let drains = self.pod.metadata.annotations.as_ref().and_then(|a| a.get("drover.dev/drain-connections"));
        let wanted = drains.is_none_or(|value| value != "false") && !ports.is_empty();
        let sandbox = self.observed.sandbox.clone().filter(|_| wanted);
        let Some(end) = &mut self.observed.termination else { return };
        end.counting = true;
        let context = Arc::clone(&self.context);
        self.steps.spawn(async move {
            Outcome::Connections(match sandbox {
                Some(sandbox) => context.network.connections(&sandbox, ports).await,
                None => Ok(0),
            })
        });
    }

    /// Lists the engine's images anew.
    pub(super) fn refresh_images(&mut self) {
        let context = Arc::clone(&self.context);
        self.steps.spawn(async move {
            if let Err(error) = context.images.refresh(context.engine.as_ref()).await {
                tracing::debug!(%error, "images cannot be listed");
            }
            Outcome::Refreshed
        });
    }

    fn mark(&mut self, name: &str, operation: Operation) {
        if let Some(state) = self.observed.containers.get_mut(name) {
            state.busy = Some(operation);
        }
    }

    pub(super) fn spec_of(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        pod_containers(spec).into_iter().find(|container| container.spec.name == name).map(|found| found.spec.clone())
    }

    pub(super) fn image_of(&self, name: &str) -> String {
        self.spec_of(name).and_then(|spec| spec.image).unwrap_or_default()
    }

    pub(super) fn hash_of(&self, name: &str) -> String {
        self.spec_of(name).map(|spec| crate::pod::plan::spec_hash(&spec)).unwrap_or_default()
    }

    /// The pod's address: its own, or the node's.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let on_host = self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let own = self.observed.sandbox.as_ref().map(|sandbox| IpAddr::V4(sandbox.address));
        if on_host { self.context.node.host_ip } else { own }
    }
}

/// Whether a volume's contents come from objects that may change.
fn follows_objects(spec: &PodSpec) -> bool {
    spec.volumes.iter().flatten().any(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some()
    })
}

async fn enter_ledger(context: &Context, request: &SandboxRequest) -> Result<(), LedgerError> {
    let entry = LedgerEntry { namespace: request.namespace.clone(), name: request.name.clone() };
    context.ledger.enter(&request.pod, entry).await
}

/// The stop signal that an image names; the engine is asked once per image.
async fn image_signal(context: &Context, image: &str) -> String {
    let details = context.images.details(context.engine.as_ref(), image).await;
    details.ok().and_then(|details| details.stop_signal.clone()).unwrap_or_else(|| "SIGTERM".to_owned())
}
