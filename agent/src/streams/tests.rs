//! The whole way: an HTTP/2 client on a duplex stream, the tunnel, the engine in memory.

mod real;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{InProcessDialer, StreamService, run_tunnel};
use crate::{
    clock::Clock,
    engine::{
        ContainerConfig, Engine,
        fake::{Behaviour, FakeEngine},
    },
    ids::{ContainerId, PodUid},
    seams::{ContainerRecord, PodDirectory, PodRecord},
};

struct World {
    directory: PodDirectory,
    client: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
    tunnels: mpsc::UnboundedReceiver<DuplexStream>,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn connect(tunnels: &mut mpsc::UnboundedReceiver<DuplexStream>) -> (SendRequest<Empty<Bytes>>, JoinHandle<()>) {
    let io = tunnels.recv().await.unwrap();
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    // A connection that breaks shows in its requests.
    (client, tokio::spawn(async move { connection.await.unwrap_or_default() }))
}

async fn container(engine: &FakeEngine, name: &str, run: bool) -> ContainerId {
    let config = ContainerConfig { image: "app".to_owned(), ..Default::default() };
    let id = engine.create_container(name, &config).await.unwrap();
    if run {
        engine.start_container(&id).await.unwrap();
    }
    id
}

async fn world() -> World {
    let engine = FakeEngine::new(Clock::System);
    engine.add_image("app", Behaviour { log: "hello\n".to_owned(), exec_code: 3, ..Default::default() });
    let record = |current: Option<&ContainerId>, previous: Option<&ContainerId>, running| ContainerRecord {
        current: current.cloned(),
        previous: previous.cloned(),
        running,
        ..Default::default()
    };
    let (first, second) = (container(&engine, "one", false).await, container(&engine, "two", true).await);
    let directory = PodDirectory::default();
    directory.put(PodRecord {
        uid: PodUid::new("u-1").unwrap(),
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
        address: None,
        netns: None,
        containers: BTreeMap::from([
            ("app".to_owned(), record(Some(&second), Some(&first), true)),
            ("fresh".to_owned(), record(Some(&second), None, true)),
            ("ended".to_owned(), record(Some(&first), None, false)),
            ("new".to_owned(), record(None, None, false)),
        ]),
    });
    let service = StreamService::new(Arc::new(engine.clone()), directory.clone(), Clock::System);
    let (far_ends, mut tunnels) = mpsc::unbounded_channel();
    let dialer = InProcessDialer::new(move |io| far_ends.send(io).map_err(std::io::Error::other));
    let shutdown = CancellationToken::new();
    tokio::spawn(run_tunnel(Arc::new(dialer), service, shutdown.clone()));
    let (client, connection) = connect(&mut tunnels).await;
    World { directory, client, connection, tunnels, shutdown }
}

async fn ask(client: &mut SendRequest<Empty<Bytes>>, method: &str, path: &str) -> (StatusCode, String) {
    let uri = format!("http://agent{path}");
    let request = Request::builder().method(method).uri(uri).body(Empty::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn logs_come_from_the_attempt_that_was_asked_for_or_with_the_reason_why_not() {
    let mut world = world().await;
    let table = [
        ("/v1/logs/ns/web/app", 200, "hello\n"),
        ("/v1/logs/ns/web/app?uid=u-1&follow=true", 200, "hello\n"),
        ("/v1/logs/ns/web/app?previous=true", 200, "hello\n"),
        ("/v1/logs/ns/web/ended", 200, "hello\n"),
        ("/v1/logs/ns/web/ended?previous=true", 200, "hello\n"),
        ("/v1/logs/ns/web/app?limitBytes=3", 200, "hel"),
        ("/v1/logs/ns/web/new", 400, r#"container \"new\" in pod \"web\" is waiting to start: ContainerCreating"#),
        (
            "/v1/logs/ns/web/fresh?previous=true",
            400,
            r#"previous terminated container \"fresh\" in pod \"web\" not found"#,
        ),
        ("/v1/logs/ns/web/none", 400, r#"container \"none\" is not valid for pod \"web\""#),
        ("/v1/logs/ns/web/app?uid=other", 404, r#"pods \"web\" not found"#),
        ("/v1/logs/ns/gone/app", 404, r#"pods \"gone\" not found"#),
    ];
    for (path, code, text) in table {
        let (status, body) = ask(&mut world.client, "GET", path).await;
        assert_eq!(status.as_u16(), code, "{path}: {body}");
        assert!(body.contains(text), "{path}: {body}");
    }
}

#[tokio::test]
async fn exec_reports_the_commands_exit_code() {
    let mut world = world().await;
    let (status, body) = ask(&mut world.client, "POST", "/v1/exec/ns/web/app?command=false&stdout=true").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""reason":"ExitCode""#) && body.contains(r#""message":"3""#), "{body}");
    let (status, body) = ask(&mut world.client, "POST", "/v1/exec/ns/web/ended?command=ls&stdout=true").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("is not running"), "{body}");
}

#[tokio::test]
async fn a_broken_tunnel_is_dialled_again() {
    let mut world = world().await;
    world.connection.abort();
    (world.client, world.connection) = connect(&mut world.tunnels).await;
    let (status, _) = ask(&mut world.client, "GET", "/v1/logs/ns/web/app").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn stats_name_what_runs() {
    let mut world = world().await;
    assert_eq!(world.directory.list().len(), 1);
    let (status, body) = ask(&mut world.client, "GET", "/v1/stats").await;
    assert_eq!(status, StatusCode::OK);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(body["node"]["memoryBytes"].as_u64().unwrap() > 0);
    let containers = body["pods"][0]["containers"].as_array().unwrap();
    let names: Vec<_> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    assert_eq!(names, ["app", "fresh"]);
}
