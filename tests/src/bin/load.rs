//! An open-loop HTTP load: a fixed rate, half on new connections and half on keep-alive ones, and no retry.
//!
//! Runs until its standard input closes and at least `--min-requests` were sent, then prints one JSON line with the
//! counts, the failures, what answered and the latencies. A request that does not get a whole `200` is a failure.
//!
//! ```text
//! load --url http://10.96.12.7:80/ --rate 1000 --min-requests 100000 [--keep-alive-max 200] [--connections 20]
//! ```
//!
//! The keep-alive half goes round over `--connections` connections, so that none idles for long.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Longer than any healthy answer takes by two orders of magnitude; a request that takes it has failed.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Options {
    authority: String,
    path: String,
    rate: u64,
    min_requests: u64,
    keep_alive_max: u32,
    connections: u64,
}

#[derive(Debug, Default)]
struct Report {
    sent: AtomicU64,
    failed: AtomicU64,
    latencies_us: Mutex<Vec<u32>>,
    answers: Mutex<BTreeMap<String, u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// One of the keep-alive connections: its requests go one after the other.
type Slot = tokio::sync::Mutex<Option<KeptAlive>>;

/// A connection that may carry so many more requests.
struct KeptAlive {
    sender: SendRequest<Empty<Bytes>>,
    left: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let report = Arc::new(Report::default());
    let stopped = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let stopped = Arc::clone(&stopped);
        async move {
            let mut sink = Vec::new();
            if tokio::io::stdin().read_to_end(&mut sink).await.is_ok() {
                stopped.store(true, Ordering::Relaxed);
            }
        }
    });
    send_all(&options, &report, &stopped).await;
    #[expect(clippy::print_stdout, reason = "the report is this program's output")]
    {
        println!("{}", report.to_json());
    }
    Ok(())
}

/// Sends at the rate until told to stop, then waits for every answer.
async fn send_all(options: &Options, report: &Arc<Report>, stopped: &AtomicBool) {
    let slots: Arc<Vec<Slot>> = Arc::new((0..options.connections).map(|_| Slot::default()).collect());
    let mut tasks = tokio::task::JoinSet::new();
    let mut ticks = interval(Duration::from_millis(2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let started = Instant::now();
    let mut sent = 0;
    while sent < options.min_requests || !stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        let due = started.elapsed().as_micros() as u64 * options.rate / 1_000_000;
        while sent < due {
            let slot = (sent % 2 == 1).then_some((sent / 2 % options.connections) as usize);
            let (options, report, slots) = (options.clone(), Arc::clone(report), Arc::clone(&slots));
            tasks.spawn(async move { one(&options, &report, slot.map(|index| &slots[index])).await });
            sent += 1;
        }
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn one(options: &Options, report: &Report, slot: Option<&Slot>) {
    let started = Instant::now();
    let outcome = timeout(DEADLINE, async {
        match slot {
            Some(slot) => request_on_kept(options, slot).await,
            None => request_on_new(options).await,
        }
    });
    let outcome = outcome.await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {DEADLINE:?}")));
    report.sent.fetch_add(1, Ordering::Relaxed);
    match outcome {
        Ok(answer) => {
            report.latencies_us.lock().expect("no panic holds this lock").push(started.elapsed().as_micros() as u32);
            let version = answer.rsplit("version ").next().unwrap_or_default().trim().to_owned();
            *report.answers.lock().expect("no panic holds this lock").entry(version).or_default() += 1;
        }
        Err(error) => {
            report.failed.fetch_add(1, Ordering::Relaxed);
            let kind = if slot.is_some() { "keep-alive" } else { "new" };
            let text = format!("{kind}: {error:#}");
            *report.errors.lock().expect("no panic holds this lock").entry(text).or_default() += 1;
        }
    }
}

async fn connect(options: &Options) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(&options.authority).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("handshake")?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn request_on_new(options: &Options) -> Result<String> {
    let mut sender = connect(options).await?;
    request(options, &mut sender, "close").await
}

async fn request_on_kept(options: &Options, slot: &Slot) -> Result<String> {
    let mut slot = slot.lock().await;
    let mut kept = match slot.take() {
        // A server may close an idle connection at any time; only one that is still open is used again.
        Some(kept) if !kept.sender.is_closed() => kept,
        _ => KeptAlive { sender: connect(options).await?, left: options.keep_alive_max },
    };
    kept.left -= 1;
    let header = if kept.left == 0 { "close" } else { "keep-alive" };
    let answer = request(options, &mut kept.sender, header).await?;
    if kept.left > 0 && kept.sender.ready().await.is_ok() {
        *slot = Some(kept);
    }
    Ok(answer)
}

async fn request(options: &Options, sender: &mut SendRequest<Empty<Bytes>>, connection: &str) -> Result<String> {
    let request = Request::get(&options.path)
        .header("host", &options.authority)
        .header("connection", connection)
        .body(Empty::new())?;
    let response = sender.send_request(request).await.context("request")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("body")?.to_bytes();
    ensure!(status.is_success(), "status {status}");
    Ok(String::from_utf8_lossy(&body).into_owned())
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            authority: String::new(),
            path: "/".to_owned(),
            rate: 1_000,
            min_requests: 1,
            keep_alive_max: 200,
            connections: 20,
        };
        while let Some(flag) = args.next() {
            let value = args.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--url" => {
                    let rest = value.strip_prefix("http://").context("--url must start with http://")?;
                    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                    options.authority =
                        if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
                    options.path = format!("/{path}");
                }
                "--rate" => options.rate = value.parse().context("--rate")?,
                "--min-requests" => options.min_requests = value.parse().context("--min-requests")?,
                "--keep-alive-max" => options.keep_alive_max = value.parse().context("--keep-alive-max")?,
                "--connections" => options.connections = value.parse().context("--connections")?,
                _ => bail!("unknown flag {flag}"),
            }
        }
        ensure!(!options.authority.is_empty(), "--url is required");
        Ok(options)
    }
}

impl Report {
    fn to_json(&self) -> serde_json::Value {
        let mut latencies = self.latencies_us.lock().expect("no panic holds this lock").clone();
        latencies.sort_unstable();
        let at = |share: usize| latencies.get(latencies.len() * share / 100).or_else(|| latencies.last()).copied();
        json!({
            "sent": self.sent.load(Ordering::Relaxed),
            "failed": self.failed.load(Ordering::Relaxed),
            "answers": *self.answers.lock().expect("no panic holds this lock"),
            "errors": *self.errors.lock().expect("no panic holds this lock"),
            "p50_us": at(50), "p99_us": at(99), "max_us": latencies.last(),
        })
    }
}
