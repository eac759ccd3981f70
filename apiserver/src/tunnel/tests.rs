//! Agents coming and going, in process and over TLS.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::duplex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Tunnels,
    testing::{says, serve},
};
use crate::{
    front::{Body, Request},
    server::testing::TestServer,
};

fn tunnels() -> Arc<Tunnels> {
    Tunnels::new(TaskTracker::new(), CancellationToken::new())
}

async fn ask(tunnels: &Tunnels, node: &str) -> Result<String, String> {
    let request = Request::new(Body::empty());
    let (mut parts, body) = request.into_parts();
    parts.uri = "http://agent/v1/stats".parse().unwrap();
    let answer = tunnels.send(node, Request::from_parts(parts, body)).await.map_err(|error| error.message)?;
    Ok(String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn the_server_asks_and_the_agent_answers() {
    let tunnels = tunnels();
    let (ours, agents) = duplex(64 << 10);
    serve(agents, says("hello"));
    tunnels.accept("n1", ours).await.unwrap();
    assert_eq!(ask(&tunnels, "n1").await.as_deref(), Ok("hello"));
    assert_eq!(tunnels.nodes(), ["n1"]);
    let refusal = ask(&tunnels, "n2").await.unwrap_err();
    assert_eq!(refusal, "node \"n2\" cannot be reached: its agent is not connected");
}

#[tokio::test]
async fn the_newest_tunnel_of_a_node_wins_and_the_old_one_is_closed() {
    let tunnels = tunnels();
    let (first, first_agent) = duplex(64 << 10);
    let (second, second_agent) = duplex(64 << 10);
    let old = serve(first_agent, says("old"));
    serve(second_agent, says("new"));
    tunnels.accept("n1", first).await.unwrap();
    tunnels.accept("n1", second).await.unwrap();
    assert_eq!(ask(&tunnels, "n1").await.as_deref(), Ok("new"));
    tokio::time::timeout(Duration::from_secs(10), old).await.expect("the old connection ends").unwrap();
    assert_eq!(ask(&tunnels, "n1").await.as_deref(), Ok("new"));
}

#[tokio::test]
async fn an_agent_that_hangs_up_is_forgotten() {
    let tunnels = tunnels();
    let (ours, agents) = duplex(64 << 10);
    let agent = serve(agents, says("hello"));
    tunnels.accept("n1", ours).await.unwrap();
    assert!(ask(&tunnels, "n1").await.is_ok());
    agent.abort();
    while !tunnels.nodes().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(ask(&tunnels, "n1").await.is_err());
}

#[tokio::test]
async fn an_agent_dials_in_over_tls_and_only_for_its_own_node() {
    let server = TestServer::start().await;
    let identity = server.handle.issue_node_certificate("n1").await.unwrap();
    let dial = async |node: &str| {
        let stream = server.connect(Some(&identity), "http/1.1").await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = http::Request::post(format!("/apis/drover.dev/v1alpha1/nodes/{node}/tunnel"))
            .header("host", "localhost")
            .header("connection", "Upgrade")
            .header("upgrade", "drover-tunnel")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        sender.send_request(request).await.unwrap()
    };
    assert_eq!(dial("n2").await.status(), 403);
    let response = dial("n1").await;
    assert_eq!((response.status().as_u16(), &response.headers()["upgrade"]), (101, &"drover-tunnel".parse().unwrap()));
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    serve(io, says("over tls"));
    while server.handle.tunnels.nodes().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&server.handle.tunnels, "n1").await.as_deref(), Ok("over tls"));
    let plain = server.request("POST", "/apis/drover.dev/v1alpha1/nodes/n1/tunnel", "");
    assert_eq!(server.send(Some(&identity), plain).await.code, 400, "HTTP/2 cannot be upgraded");
    server.stop().await;
}
