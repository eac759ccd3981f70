//! Who leads when, as a table; and that a lead is raised, carried and lost as the server says.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Election, FencedClient,
    election::{Term, run},
    plan::{LEASE, LOOK_EVERY, Observed, Seen, Step, plan},
};
use crate::runtime::Environment;

fn step(holder: Option<&str>, leading: bool, unchanged: Duration) -> Step {
    let lease = holder.map(|holder| Seen { holder: holder.to_owned(), ..Seen::default() });
    plan(&Observed { me: "a", leading, lease: lease.as_ref(), unchanged })
}

#[test]
fn a_candidate_takes_what_nobody_holds_and_waits_for_what_somebody_does() {
    let (now, almost) = (Duration::ZERO, LEASE - Duration::from_millis(1));
    assert_eq!(step(None, false, now), Step::Create);
    assert_eq!(step(Some(""), false, now), Step::Take);
    assert_eq!(step(Some("b"), false, now), Step::Wait(LOOK_EVERY));
    assert_eq!(step(Some("b"), false, almost), Step::Wait(Duration::from_millis(1)));
    assert_eq!(step(Some("b"), false, LEASE), Step::Take);
    assert_eq!(step(Some("a"), false, now), Step::Take, "a former life of this candidate");
}

#[test]
fn a_leader_renews_until_somebody_else_leads_and_not_by_the_clock() {
    assert_eq!(step(Some("a"), true, LEASE * 100), Step::Renew);
    assert_eq!(step(Some("b"), true, Duration::ZERO), Step::StandDown);
    assert_eq!(step(None, true, Duration::ZERO), Step::Create, "every server lost the Lease");
    assert_eq!(step(Some(""), true, Duration::ZERO), Step::Take);
}

/// A server that keeps one Lease and one fence.
#[derive(Debug, Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    epoch: u64,
    /// Epochs of the writes that were refused.
    refused: Vec<String>,
}

fn client(server: &Arc<Mutex<Server>>) -> kube::Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            Ok::<_, Infallible>(server.lock().unwrap().answer(&parts, body))
        }
    });
    kube::Client::new(service, "default")
}

impl Server {
    fn answer(&mut self, request: &http::request::Parts, mut body: Value) -> Response<Body> {
        let reply = |code: u16, body: Value| {
            Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
        };
        let refusal = |code: u16, reason: &str| {
            let body = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code});
            reply(code, body)
        };
        if request.uri.path().starts_with("/drover/v1/fences/") {
            self.epoch += 1;
            return reply(201, json!({"epoch": self.epoch}));
        }
        if let Some(fence) = request.headers.get("drover-fence")
            && request.method != http::Method::GET
            && fence.to_str().unwrap() != format!("controllers/{}", self.epoch)
        {
            self.refused.push(fence.to_str().unwrap().to_owned());
            let mut response = refusal(409, "Conflict");
            response.headers_mut().insert("drover-fence", "stale".parse().unwrap());
            return response;
        }
        match (&request.method, &self.lease) {
            (&http::Method::GET, Some(lease)) => reply(200, lease.clone()),
            (&http::Method::GET, None) => refusal(404, "NotFound"),
            (&http::Method::POST, Some(_)) => refusal(409, "AlreadyExists"),
            (_, Some(lease)) if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                refusal(409, "Conflict")
            }
            (_, _) => {
                self.version += 1;
                body["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.lease = Some(body.clone());
                reply(200, body)
            }
        }
    }

    fn holder(&self) -> String {
        self.lease
            .as_ref()
            .map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }
}

/// A candidate whose controllers write once every 100 ms while they run.
struct Running {
    leading: Arc<Mutex<bool>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(server: &Arc<Mutex<Server>>, identity: &str) -> Running {
    let (leading, stop) = (Arc::new(Mutex::new(false)), CancellationToken::new());
    let shown = Arc::clone(&leading);
    let term: Term = Box::new(move |client: kube::Client, stop| {
        let shown = Arc::clone(&shown);
        async move {
            *shown.lock().unwrap() = true;
            while !stop.is_cancelled() {
                let write = Request::post("/api/v1/namespaces/default/pods").body(Vec::new()).unwrap();
                drop(client.request_text(write).await);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
            *shown.lock().unwrap() = false;
        }
        .boxed()
    });
    let election = Election { identity: identity.to_owned() };
    let task = tokio::spawn(run(client(server), election, Environment::system(), term, stop.clone()));
    Running { leading, stop, task }
}

impl Running {
    fn leads(&self) -> bool {
        *self.leading.lock().unwrap()
    }

    async fn until(&self, leads: bool) {
        while self.leads() != leads {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_follows_when_it_is_gone() {
    let server = Arc::new(Mutex::new(Server::default()));
    let first = start(&server, "first");
    first.until(true).await;
    let second = start(&server, "second");
    tokio::time::sleep(LEASE * 5).await;
    assert!(first.leads() && !second.leads());
    // Killed, without a word.
    first.task.abort();
    let killed = tokio::time::Instant::now();
    second.until(true).await;
    assert!(killed.elapsed() < Duration::from_secs(5), "took {:?}", killed.elapsed());
    // Left properly: at once.
    let third = start(&server, "third");
    tokio::time::sleep(LEASE).await;
    second.stop.cancel();
    let left = tokio::time::Instant::now();
    third.until(true).await;
    assert!(left.elapsed() < LEASE, "took {:?}", left.elapsed());
    assert_eq!(server.lock().unwrap().holder(), "third");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_write_is_refused_stands_down_and_its_late_writes_do_nothing() {
    let server = Arc::new(Mutex::new(Server::default()));
    let first = start(&server, "first");
    first.until(true).await;
    // As if the process had been paused while another took the lead.
    {
        let mut server = server.lock().unwrap();
        server.epoch += 1;
        let lease = server.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = "other".into();
        lease["spec"]["renewTime"] = Value::Null;
    }
    first.until(false).await;
    tokio::time::sleep(LEASE / 2).await;
    let refused = server.lock().unwrap().refused.clone();
    assert!(refused.len() <= 1, "the write that found out was the last: {refused:?}");
}

#[tokio::test]
async fn a_refusal_for_the_epoch_is_a_lost_lead_and_any_other_is_not() {
    let server = Arc::new(Mutex::new(Server { epoch: 2, ..Server::default() }));
    for (epoch, lost) in [(1, true), (2, false)] {
        let token = CancellationToken::new();
        let fenced = FencedClient::wrap(client(&server), "controllers", epoch, token.clone());
        let delete = Request::delete("/api/v1/namespaces/default/pods/p").body(Vec::new()).unwrap();
        drop(fenced.request_text(delete).await);
        assert_eq!(token.is_cancelled(), lost, "epoch {epoch}");
    }
    assert_eq!(server.lock().unwrap().refused, ["controllers/1"]);
}
