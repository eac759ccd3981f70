//! Keeps HAProxy as the objects demand it, and says up to which revision it is.

use std::{borrow::Cow, collections::BTreeSet, io, path::Path, time::Duration};

use drover_api::ingress::SERVING;
use drover_routing::ingress::{
    Desired,
    change::{Observed, cleanup, commands},
    config::{Files, Settings, files, structure_of},
    desired,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    feed::Fed,
    process::{Process, ProcessError},
};
use crate::{causes::with_causes, run::IngressPorts};

/// How often HAProxy is looked at without a reason.
const WATCH: Duration = Duration::from_secs(1);
/// How long what was read of it is believed.
const BELIEVED: Duration = Duration::from_secs(10);

/// Settings of the ingress.
#[derive(Debug, Clone)]
pub(crate) struct IngressConfig {
    pub(crate) process: Process,
    pub(crate) ports: IngressPorts,
}

impl IngressConfig {
    fn files(&self, desired: &Desired) -> Files {
        files(desired, &self.settings(&self.process.dirs().0))
    }

    fn settings(&self, dir: &Path) -> Settings {
        let IngressPorts { http, https, stats } = self.ports;
        Settings {
            http_port: http,
            https_port: https,
            stats_port: stats,
            dir: dir.display().to_string(),
            user: Process::user(),
        }
    }
}

/// What is demanded, rendered once: it is looked at every second.
struct Wanted {
    revision: u64,
    desired: Desired,
    files: Files,
}

/// What is known of the worker that gets new connections.
struct Known {
    worker: u32,
    structure: Option<String>,
    backends: BTreeSet<String>,
    observed: Observed,
    read_at: Instant,
}

struct Runner {
    config: IngressConfig,
    known: Option<Known>,
}

/// Serves while `chosen` says so, until `stop`; then HAProxy stays. `acknowledged` is what it reflects, `None` where nobody
/// asks it; `state` is what is to be said of it, `None` where nothing is. Both `chosen` and the input are `None` until they
/// are known.
pub(crate) async fn run(
    config: IngressConfig,
    mut chosen: watch::Receiver<Option<bool>>,
    mut input: watch::Receiver<Option<Fed>>,
    acknowledged: watch::Sender<Option<u64>>,
    state: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    let mut runner = Runner { config, known: None };
    let mut wanted = None;
    loop {
        if input.has_changed().is_ok_and(|changed| changed) {
            let fed = input.borrow_and_update();
            wanted = fed.as_ref().map(|(revision, input)| {
                let desired = desired(input);
                let files = runner.config.files(&desired);
                Wanted { revision: *revision, desired, files }
            });
        }
        let is_chosen = *chosen.borrow_and_update();
        match (is_chosen, &mut wanted) {
            (Some(true), Some(wanted)) => {
                let outcome = runner.step(wanted).await;
                let said = outcome.as_ref().err().map_or_else(|| SERVING.to_owned(), |error| with_causes(error));
                match outcome {
                    Ok(()) => drop(acknowledged.send_replace(Some(wanted.revision))),
                    Err(_) => {
                        runner.known = None;
                        // One that is not there leads nobody anywhere.
                        if !runner.config.process.lives() {
                            acknowledged.send_replace(None);
                        }
                    }
                }
                say(&state, Some(said));
            }
            (Some(false), _) => {
                if runner.config.process.lives() {
                    runner.config.process.end();
                    runner.known = None;
                }
                acknowledged.send_replace(None);
                say(&state, None);
            }
            _ => {}
        }
        // Cancel-safe: watches, a timer, a token.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = news(&mut input) => if changed.is_err() { return stop.cancelled().await },
            Ok(()) = chosen.changed() => {}
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}

/// Waits for a change and leaves it to be taken.
async fn news<T>(input: &mut watch::Receiver<T>) -> Result<(), watch::error::RecvError> {
    input.changed().await?;
    input.mark_changed();
    Ok(())
}

/// Says something once.
fn say(state: &watch::Sender<Option<String>>, said: Option<String>) {
    state.send_if_modified(|before| {
        let news = *before != said;
        if let Some(said) = said.as_ref().filter(|said| news && *said != SERVING) {
            tracing::warn!("Ingresses are not served as they should be: {said}");
        }
        *before = said;
        news
    });
}

impl Runner {
    async fn step(&mut self, wanted: &mut Wanted) -> Result<(), ProcessError> {
        let process = self.config.process.clone();
        if !process.lives() {
            process.check_version().await?;
            // Whom HAProxy becomes may have come with its package.
            wanted.files = self.config.files(&wanted.desired);
            self.write(wanted).await?;
            self.known = None;
            process.start().await?;
        }
        let known = self.bring(&wanted.desired).await?;
        let structure = &wanted.files.structure;
        if known.structure.as_ref() == Some(structure) {
            self.known = Some(known);
            return Ok(());
        }
        self.write(wanted).await?;
        process.reload(|info| structure_of(info) == Some(structure)).await
    }

    /// Writes the files where HAProxy will find them, once it has said that it takes them.
    async fn write(&self, wanted: &Wanted) -> Result<(), ProcessError> {
        let process = &self.config.process;
        let (current, next) = process.dirs();
        process.write(&next, &files(&wanted.desired, &self.config.settings(&next)))?;
        process.check(&next).await?;
        process.write(&current, &wanted.files)
    }

    /// Brings the servers of the running configuration to where they should be, as far as it has the backends.
    async fn bring(&mut self, desired: &Desired) -> Result<Known, ProcessError> {
        let process = &self.config.process;
        let worker = process.worker().await?.ok_or_else(|| ProcessError::Silent(io::ErrorKind::NotFound.into()))?;
        let mut known = match self.known.take() {
            Some(known) if known.worker == worker && known.read_at.elapsed() < BELIEVED => known,
            _ => read(process, worker).await?,
        };
        let mut there = Cow::Borrowed(desired);
        if !desired.backends.keys().all(|name| known.backends.contains(name)) {
            there.to_mut().backends.retain(|name, _| known.backends.contains(name));
        }
        process.tell_worker(worker, &commands(&known.observed, &there)).await?;
        known.observed = known.observed.after(&there);
        for command in cleanup(&known.observed, &there) {
            // Refused while something is attached; the next look finds what is left.
            if let Err(error) = process.tell_worker(worker, &[command]).await {
                tracing::debug!(%error, "a server stays for now");
            }
        }
        if !known.observed.leaving.values().all(BTreeSet::is_empty) {
            known.observed = observe(process, worker).await?;
        }
        Ok(known)
    }
}

async fn read(process: &Process, worker: u32) -> Result<Known, ProcessError> {
    let read_at = Instant::now();
    let info = process.ask_worker(worker, "show info").await?;
    let backends = process.ask_worker(worker, "show backend").await?;
    Ok(Known {
        worker,
        structure: structure_of(&info).map(str::to_owned),
        backends: backends.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect(),
        observed: observe(process, worker).await?,
        read_at,
    })
}

async fn observe(process: &Process, worker: u32) -> Result<Observed, ProcessError> {
    Ok(Observed::read(&process.ask_worker(worker, "show servers state").await?))
}
