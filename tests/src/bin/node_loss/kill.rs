//! One host dies and comes back.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use drover_tests::get;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::web::{NODE_PORT, Web};

/// Between two requests; each on a new connection, whatever became of the ones before.
const REQUEST_EVERY: Duration = Duration::from_millis(10);
/// A request that takes longer went to the dead host first; an answer takes a millisecond.
const PROMPT: Duration = Duration::from_millis(500);
/// A request without an answer by then has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the loss of one host looked like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loss {
    /// From the kill to the sending of the last request that was not answered promptly.
    pub(crate) traffic_away: Duration,
    /// To the Node being marked.
    pub(crate) marked: Duration,
    /// To as many Ready pods on other hosts as are asked for.
    pub(crate) replaced: Duration,
    /// Requests sent, answered late, and not answered.
    pub(crate) requests: (usize, usize, usize),
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [away, marked, replaced] = [self.traffic_away, self.marked, self.replaced].map(|time| time.as_secs_f64());
        let (sent, late, failed) = self.requests;
        write!(
            formatter,
            "traffic away {away:.2} s (of {sent} requests {late} late, {failed} failed), marked {marked:.2} s, replaced {replaced:.2} s"
        )
    }
}

/// Kills the host with the most pods, and waits until all is well again with it.
pub(crate) async fn lose_a_host(web: &mut Web) -> Result<Loss> {
    let ready = web.ready().await?;
    let count = |name: &str| ready.get(name).copied().unwrap_or_default();
    let agents = web.pool.agents.iter().enumerate();
    let (victim, _) = agents.max_by_key(|(_, agent)| count(&agent.name)).context("there are hosts")?;
    let name = web.pool.agents[victim].name.clone();
    let entry = (victim + 1) % web.pool.agents.len();
    let requests = Requests::start(format!("http://{}:{NODE_PORT}/", web.pool.agents[entry].engine.address()));
    let killed = Instant::now();
    let agent = &mut web.pool.agents[victim];
    agent.engine.host().context("a host of its own")?.connect(false).await?;
    agent.kill().await?;
    agent.engine.kill().await?;
    let mut loss = Loss::default();
    while loss.replaced.is_zero() {
        if loss.marked.is_zero() && web.not_ready().await?.contains_key(&name) {
            loss.marked = killed.elapsed();
        }
        let elsewhere: usize = web.ready().await?.iter().filter(|(node, _)| **node != name).map(|(_, pods)| pods).sum();
        if elsewhere >= web.replicas {
            loss.replaced = killed.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sent = requests.stop().await;
    let late = sent.iter().filter(|(_, took)| took.is_none_or(|took| took > PROMPT));
    loss.traffic_away = late.clone().map(|(at, _)| at.saturating_duration_since(killed)).max().unwrap_or_default();
    let failed = sent.iter().filter(|(_, took)| took.is_none()).count();
    loss.requests = (sent.len(), late.count() - failed, failed);
    let agent = &mut web.pool.agents[victim];
    agent.engine.host().context("a host of its own")?.connect(true).await?;
    agent.engine.restart().await?;
    agent.start(&[])?;
    web.settled().await?;
    Ok(loss)
}

/// When a request was sent, and how long its answer took.
type Request = (Instant, Option<Duration>);

/// An open loop of requests.
struct Requests {
    done: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Requests {
    fn start(url: String) -> Self {
        let (done, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let (noted, stopped) = (Arc::clone(&done), stop.clone());
        let task = tokio::spawn(async move {
            let mut tick = interval(REQUEST_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut open = JoinSet::new();
            while !stopped.is_cancelled() {
                tick.tick().await;
                let (url, noted) = (url.clone(), Arc::clone(&noted));
                open.spawn(async move {
                    let at = Instant::now();
                    let answered = timeout(ANSWER_WITHIN, get(&url)).await.is_ok_and(|answer| answer.is_ok());
                    let took = answered.then(|| at.elapsed());
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((at, took));
                });
            }
            drop(open.join_all().await);
        });
        Self { done, task, stop }
    }

    /// Waits for the requests that are under way.
    async fn stop(self) -> Vec<Request> {
        self.stop.cancel();
        drop(self.task.await);
        std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
