//! Watching until every target is done.

use std::{collections::BTreeSet, time::Duration};

use drover_api::object::str_at;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use super::{State, Target, World, state, stuck::stuck, tree::tree};
use crate::{
    cluster::{Cluster, Event, Query, follow},
    output::{Live, Output, Style, wrap},
};

/// How often the picture is redrawn at most.
const FRAME: Duration = Duration::from_millis(100);
/// How long a problem must last before it is called stuck: back-offs and races pass sooner.
const PATIENCE: Duration = Duration::from_secs(4);
/// What is followed in each namespace that has targets.
const FOLLOWED: [(&str, &str); 4] =
    [("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("v1", "Pod"), ("v1", "Event")];

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every target is done.
    Done,
    /// A target cannot get there; the sentence says why.
    Failed(String),
    /// Time is up; the sentence says what was missing.
    TimedOut(String),
}

impl Outcome {
    /// Prints what is to be said and returns the exit code: 0 done, 1 failed, 2 timed out.
    pub(crate) fn finish(self, output: Output) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Failed(why) => {
                output.note(&format!("error: {why}"));
                1
            }
            Outcome::TimedOut(why) => {
                output.note(&format!("error: timed out: {why}"));
                2
            }
        }
    }
}

/// How to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How long at most.
    pub(crate) timeout: Duration,
    /// Whether to print anything before the end.
    pub(crate) quiet: bool,
}

/// Waits until all targets are done, drawing a tree on a terminal and a line a change elsewhere.
///
/// # Errors
/// When the cluster does not serve a target's kind, or printing fails.
pub(crate) async fn wait(
    cluster: &Cluster,
    output: Output,
    targets: &[Target],
    settings: Settings,
) -> anyhow::Result<Outcome> {
    let targets: Vec<Target> = targets.iter().filter(|target| has_progress(&target.kind)).cloned().collect();
    let mut changes = follow_all(cluster, &targets).await?;
    let deadline = Instant::now() + settings.timeout;
    let mut watcher = Watcher::new(output, targets, settings.quiet);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        frames.tick().await;
        while let Ok(change) = changes.try_recv() {
            watcher.see(change);
        }
        if let Some(outcome) = watcher.look(Instant::now())? {
            return Ok(outcome);
        }
        if Instant::now() >= deadline {
            return Ok(Outcome::TimedOut(watcher.missing()));
        }
        // Sleeps until something changes; once a second for the sake of problems that merely last.
        let next = deadline.min(Instant::now() + Duration::from_secs(1));
        if let Ok(Some(change)) = timeout_at(next, changes.recv()).await {
            watcher.see(change);
        }
    }
}

fn has_progress(kind: &str) -> bool {
    matches!(kind, "Deployment" | "ReplicaSet" | "Pod" | "StatefulSet" | "DaemonSet")
}

/// A change and the kind and namespace it is of.
struct Change {
    kind: &'static str,
    namespace: String,
    event: Event,
}

async fn follow_all(cluster: &Cluster, targets: &[Target]) -> anyhow::Result<mpsc::Receiver<Change>> {
    let (tx, rx) = mpsc::channel(1024);
    let mut kinds: Vec<(&'static str, &'static str)> = FOLLOWED.to_vec();
    for kind in ["StatefulSet", "DaemonSet"] {
        if targets.iter().any(|target| target.kind == kind) {
            kinds.push(("apps/v1", kind));
        }
    }
    let namespaces: BTreeSet<&str> = targets.iter().map(|target| target.namespace.as_str()).collect();
    for namespace in namespaces {
        for &(api_version, kind) in &kinds {
            let resource = cluster.resource_of_kind(api_version, kind).await?;
            let mut events = follow(cluster, resource.collection(Some(namespace)), Query::new());
            let (tx, namespace) = (tx.clone(), namespace.to_owned());
            // Ends when the receiver is gone.
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    if tx.send(Change { kind, namespace: namespace.clone(), event }).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    Ok(rx)
}

/// What has been seen and said so far.
struct Watcher {
    output: Output,
    live: Live,
    targets: Vec<Target>,
    world: World,
    quiet: bool,
    said: Vec<String>,
    problem: Option<(String, Instant)>,
    told: Option<String>,
    lost: Option<String>,
}

impl Watcher {
    fn new(output: Output, targets: Vec<Target>, quiet: bool) -> Self {
        let said = vec![String::new(); targets.len()];
        let world = World::default();
        Self { output, live: output.live(), targets, world, quiet, said, problem: None, told: None, lost: None }
    }

    fn see(&mut self, change: Change) {
        let Change { kind, namespace, event } = change;
        let typed = |mut found: serde_json::Value| {
            if str_at(&found, &["kind"]).is_empty() {
                found["kind"] = kind.into();
            }
            found
        };
        match event {
            Event::Listed(listed) => {
                self.lost = None;
                self.world.replace(kind, &namespace, listed.into_iter().map(typed).collect());
            }
            Event::Changed(found) => self.world.put(kind, typed(found)),
            Event::Deleted(gone) => self.world.remove(kind, &gone),
            Event::Lost(error) => self.lost = Some(error.to_string()),
        }
    }

    /// Draws, and says whether it is over.
    fn look(&mut self, now: Instant) -> anyhow::Result<Option<Outcome>> {
        let states: Vec<Option<State>> = self
            .targets
            .iter()
            .map(|target| self.world.get(target).map(|found| state(found, target.generation)))
            .collect();
        let problem = self.lasting_problem(now);
        if !self.quiet {
            self.draw(&states, problem.as_deref())?;
        }
        if states.iter().all(|state| matches!(state, Some(State::Done(_)))) {
            return Ok(Some(Outcome::Done));
        }
        let failed = states.iter().zip(&self.targets).find_map(|(state, target)| match state {
            Some(State::Failed(words)) => Some(format!("{}: {words}", target.label())),
            Some(State::Done(_) | State::Waiting(_)) | None => None,
        });
        Ok(failed.map(|failed| Outcome::Failed(stuck(&self.world, &self.targets).unwrap_or(failed))))
    }

    /// The problem that has been there for a while.
    fn lasting_problem(&mut self, now: Instant) -> Option<String> {
        let Some(current) = self.lost.clone().or_else(|| stuck(&self.world, &self.targets)) else {
            self.problem = None;
            return None;
        };
        match &self.problem {
            Some((known, since)) if *known == current => (now - *since >= PATIENCE).then_some(current),
            Some(_) | None => {
                // Another sentence for the same trouble, such as a count of restarts, does not start the clock again.
                let since = self.problem.as_ref().map_or(now, |(_, since)| *since);
                self.problem = Some((current.clone(), since));
                (now - since >= PATIENCE).then_some(current)
            }
        }
    }

    fn draw(&mut self, states: &[Option<State>], problem: Option<&str>) -> anyhow::Result<()> {
        if self.output.is_terminal() {
            let mut lines = tree(&self.world, &self.targets);
            lines.extend(problem.into_iter().flat_map(|problem| wrap(problem, Style::Red)));
            return Ok(self.live.draw(&lines)?);
        }
        for ((state, target), said) in states.iter().zip(&self.targets).zip(&mut self.said) {
            let words = state.as_ref().map_or("waits to be seen", State::words);
            if words != said && state.is_some() {
                self.output.line(format!("{}: {words}", target.label()))?;
                *said = words.to_owned();
            }
        }
        if problem.is_some() && problem != self.told.as_deref() {
            self.told = problem.map(str::to_owned);
            self.output.line(problem.unwrap_or_default())?;
        }
        Ok(())
    }

    /// What is not done when time is up.
    fn missing(&self) -> String {
        if let Some(problem) = self.lost.clone().or_else(|| stuck(&self.world, &self.targets)) {
            return problem;
        }
        let open = self.targets.iter().filter_map(|target| {
            match self.world.get(target).map(|found| state(found, target.generation)) {
                Some(State::Done(_)) => None,
                Some(State::Waiting(words) | State::Failed(words)) => Some(format!("{}: {words}", target.label())),
                None => Some(format!("{}: was never seen", target.label())),
            }
        });
        open.collect::<Vec<_>>().join("; ")
    }
}
