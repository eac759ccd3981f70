//! One host dies and comes back.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use drover_tests::{Web, get};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

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
    let victim = web.fullest().await?;
    let name = web.pool.agents[victim].name.clone();
    let requests = Requests::start(web.url((victim + 1) % web.pool.agents.len()));
    let killed = Instant::now();
    web.kill(victim).await?;
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
    let late = sent.iter().filter(|(_, took)| !took.as_ref().is_ok_and(|took| *took <= PROMPT));
    loss.traffic_away = late.clone().map(|(at, _)| at.saturating_duration_since(killed)).max().unwrap_or_default();
    let failed: Vec<&String> = sent.iter().filter_map(|(_, took)| took.as_ref().err()).collect();
    if let Some(why) = failed.first() {
        eprintln!("a request without an answer: {why}");
    }
    let failed = failed.len();
    loss.requests = (sent.len(), late.count() - failed, failed);
    web.revive(victim).await?;
    Ok(loss)
}

/// When a request was sent, and how long its answer took or why there is none.
type Request = (Instant, Result<Duration, String>);

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
                    let answer = timeout(ANSWER_WITHIN, get(&url)).await.map_err(anyhow::Error::from).flatten();
                    let took = answer.map(|_| at.elapsed()).map_err(|error| format!("{error:#}"));
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
