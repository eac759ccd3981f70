//! A client, a server over TLS, and a fake agent behind a tunnel.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use super::frames::{self, CLOSE, Decoder, ERROR, STDERR, STDIN, STDOUT};
use crate::{
    front::{Body, Response},
    server::testing::TestServer,
    tunnel::testing::{Handler, serve},
};

const POD: &str = "/api/v1/namespaces/default/pods/y";

/// A server with the pod `default/y` (containers a and b) on the node n1, whose agent answers by `handler`.
async fn cluster(handler: Option<Handler>) -> TestServer {
    let server = TestServer::start().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "y", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
    });
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let admin = server.admin();
    server.post(Some(&admin), "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let created = server.post(Some(&admin), "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(created.code, 201, "{}", created.text());
    if let Some(handler) = handler {
        let (ours, agents) = tokio::io::duplex(64 << 10);
        serve(agents, handler);
        server.handle.tunnels.accept("n1", ours).await.unwrap();
    }
    server
}

fn stream(body: mpsc::Receiver<Result<Bytes, std::convert::Infallible>>) -> Response {
    Response::new(Body::from_stream(ReceiverStream::new(body)))
}

#[tokio::test]
async fn followed_logs_arrive_chunk_by_chunk() {
    let (lines, queue) = mpsc::channel(4);
    let (seen, mut requests) = mpsc::channel(4);
    let queue = Arc::new(std::sync::Mutex::new(Some(queue)));
    let server = cluster(Some(Arc::new(move |request| {
        let (queue, seen) = (queue.lock().unwrap().take().unwrap(), seen.clone());
        Box::pin(async move {
            seen.send(request.uri().to_string()).await.unwrap();
            stream(queue)
        })
    })))
    .await;
    let tls = server.connect(Some(&server.admin()), "h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let request = server.request("GET", &format!("{POD}/log?container=b&follow=true&tailLines=5"), "");
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let mut body = response.into_body();
    for line in ["one\n", "two\n"] {
        lines.send(Ok(Bytes::from(line))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), line);
    }
    drop(lines);
    assert!(body.collect().await.unwrap().to_bytes().is_empty(), "the stream ends with the agent's");
    let asked = requests.recv().await.unwrap();
    assert!(asked.starts_with("http://agent/v1/logs/default/y/b?uid="), "{asked}");
    assert!(asked.ends_with("&follow=true&previous=false&timestamps=false&tailLines=5"), "{asked}");
    server.stop().await;
}

#[tokio::test]
async fn log_refusals_are_statuses() {
    let refuse: Handler = Arc::new(|_| {
        Box::pin(async {
            let status = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such container"});
            let mut response = Response::new(Body::from(status.to_string()));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        })
    });
    let server = cluster(Some(refuse)).await;
    let admin = server.admin();
    let table = [
        ("log", 400, "a container name must be specified for pod y, choose one of: [a b]"),
        ("log?container=x", 400, "container x is not valid for pod y"),
        ("log?container=a", 400, "container \"a\" in pod \"y\" is waiting to start: ContainerCreating"),
        ("log?container=a&previous=true", 400, "previous terminated container \"a\" in pod \"y\" not found"),
        (
            "log?container=a&tailLines=-1",
            422,
            "PodLogOptions \"\" is invalid: tailLines: Invalid value: \"-1\": must be an integer of at least 0",
        ),
    ];
    for (path, code, message) in table {
        let answer = server.get(Some(&admin), &format!("{POD}/{path}")).await;
        assert_eq!((answer.code, answer.json()["message"].as_str().unwrap()), (code, message), "{path}");
    }
    let gone = server.get(Some(&admin), "/api/v1/namespaces/default/pods/z/log").await;
    assert_eq!((gone.code, gone.json()["message"].as_str().unwrap()), (404, "pods \"z\" not found"));
    server.stop().await;
}

#[tokio::test]
async fn a_node_without_a_tunnel_is_503_with_the_reason() {
    let server = cluster(None).await;
    let path = format!("{POD}/exec?container=a&command=ls&stdout=true");
    let refusal = connect(&server, &path, "v5.channel.k8s.io").await.unwrap_err();
    assert_eq!(refusal.0, 503);
    assert_eq!(refusal.1["message"], "node \"n1\" cannot be reached: its agent is not connected");
    server.stop().await;
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

async fn connect(server: &TestServer, path: &str, protocol: &str) -> Result<(Socket, String), (u16, Value)> {
    let tls = server.connect(Some(&server.admin()), "http/1.1").await.unwrap();
    let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    match tokio_tungstenite::client_async(request, tls).await {
        Ok((socket, response)) => {
            let chosen = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
            Ok((socket, chosen))
        }
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or_default()))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Echoes stdin to stdout; at its end says bye on stderr and exits with 3.
fn echo() -> Handler {
    Arc::new(|request| {
        Box::pin(async move {
            let (output, queue) = mpsc::channel(16);
            tokio::spawn(async move {
                let (mut body, mut decoder) = (request.into_body(), Decoder::default());
                'reading: while let Some(Ok(frame)) = body.frame().await {
                    decoder.push(&frame.into_data().unwrap_or_default());
                    while let Some((channel, payload)) = decoder.next().unwrap() {
                        match (channel, payload.as_ref()) {
                            (STDIN, text) => output.send(Ok(frames::encode(STDOUT, text))).await.unwrap(),
                            (CLOSE, [STDIN]) => break 'reading,
                            other => {
                                output.send(Ok(frames::encode(STDERR, format!("{other:?}").as_bytes()))).await.unwrap()
                            }
                        }
                    }
                }
                let status = json!({"status": "Failure", "reason": "NonZeroExitCode",
                    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
                for (channel, text) in [(STDERR, "bye"), (ERROR, status.to_string().as_str())] {
                    // The client may be gone.
                    drop(output.send(Ok(frames::encode(channel, text.as_bytes()))).await);
                }
            });
            stream(queue)
        })
    })
}

async fn receive(socket: &mut Socket) -> Option<(u8, Bytes)> {
    loop {
        match socket.next().await? {
            Ok(Message::Binary(bytes)) => return Some((bytes[0], bytes.slice(1..))),
            Ok(Message::Close(frame)) => {
                let code = frame.map(|frame| u16::from(frame.code));
                assert_eq!(code, Some(1000), "clients take any other code for a broken stream");
                return None;
            }
            Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn exec_keeps_the_order_of_frames_and_ends_with_a_status() {
    let server = cluster(Some(echo())).await;
    let path = format!("{POD}/exec?container=a&command=cat&stdin=true&stdout=true&stderr=true");
    let (mut socket, chosen) = connect(&server, &path, "v5.channel.k8s.io, v4.channel.k8s.io").await.unwrap();
    assert_eq!(chosen, "v5.channel.k8s.io");
    assert_eq!(receive(&mut socket).await, Some((STDOUT, Bytes::new())), "the stream is open");
    for index in 0..200 {
        let mut message = vec![STDIN];
        message.extend(format!("line {index}").into_bytes());
        socket.send(Message::Binary(message.into())).await.unwrap();
    }
    for index in 0..200 {
        assert_eq!(receive(&mut socket).await, Some((STDOUT, format!("line {index}").into())));
    }
    socket.send(Message::Binary(vec![CLOSE, STDIN].into())).await.unwrap();
    assert_eq!(receive(&mut socket).await, Some((STDERR, "bye".into())));
    let (channel, status) = receive(&mut socket).await.unwrap();
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!((channel, &status["reason"]), (ERROR, &json!("NonZeroExitCode")));
    assert_eq!(receive(&mut socket).await, None, "the server closes");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_breaks_off_is_told_as_a_failure() {
    let vanish: Handler = Arc::new(|_| {
        Box::pin(async {
            let (output, queue) = mpsc::channel(1);
            output.send(Ok(frames::encode(STDOUT, b"half"))).await.unwrap();
            stream(queue)
        })
    });
    let server = cluster(Some(vanish)).await;
    let path = format!("{POD}/attach?container=a&stdout=true");
    let (mut socket, chosen) = connect(&server, &path, "v4.channel.k8s.io").await.unwrap();
    assert_eq!(chosen, "v4.channel.k8s.io");
    assert_eq!(receive(&mut socket).await, Some((STDOUT, Bytes::new())));
    assert_eq!(receive(&mut socket).await, Some((STDOUT, "half".into())));
    let (channel, status) = receive(&mut socket).await.unwrap();
    assert_eq!(channel, ERROR);
    assert!(String::from_utf8_lossy(&status).contains("ended early"));
    server.stop().await;
}

#[tokio::test]
async fn exec_refuses_before_it_upgrades() {
    let server = cluster(Some(echo())).await;
    let admin = server.admin();
    let table = [
        ("exec?container=a&stdout=true", 422, "PodExecOptions \"\" is invalid: command: Required value"),
        ("exec?container=a&command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("exec?container=x&command=ls&stdout=true", 400, "container x is not valid for pod y"),
    ];
    for (path, code, message) in table {
        let refusal = connect(&server, &format!("{POD}/{path}"), "v5.channel.k8s.io").await.unwrap_err();
        assert_eq!((refusal.0, refusal.1["message"].as_str().unwrap()), (code, message), "{path}");
    }
    let path = format!("{POD}/exec?container=a&command=ls&stdout=true");
    let plain = server.post(Some(&admin), &path, &json!({})).await;
    assert_eq!(plain.code, 400, "SPDY clients and plain ones are told what is spoken");
    assert_eq!(connect(&server, &path, "v1.channel.k8s.io").await.unwrap_err().0, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_forwarded_port_carries_bytes_both_ways() {
    let server = cluster(Some(Arc::new(|request| {
        let port = request.uri().query().unwrap().rsplit('=').next().unwrap().to_owned();
        Box::pin(async move {
            if port == "81" {
                let mut refused = Response::new(Body::from(json!({"message": "connection refused"}).to_string()));
                *refused.status_mut() = http::StatusCode::BAD_REQUEST;
                return refused;
            }
            Response::new(Body::new(request.into_body()))
        })
    })))
    .await;
    let path = format!("{POD}/portforward?ports=80&ports=81");
    let (mut socket, _) = connect(&server, &path, "v4.channel.k8s.io").await.unwrap();
    socket.send(Message::Binary(b"\0ping".to_vec().into())).await.unwrap();
    let mut received: Vec<(u8, Bytes)> = Vec::new();
    while received.len() < 6 {
        received.push(receive(&mut socket).await.unwrap());
    }
    let of = |channel: u8| -> Vec<&[u8]> {
        received.iter().filter(|(own, _)| *own == channel).map(|(_, payload)| payload.as_ref()).collect()
    };
    let (first, second): (&[u8], &[u8]) = (&[80, 0], &[81, 0]);
    assert_eq!(of(0), [first, b"ping"]);
    assert_eq!(of(1), [first]);
    assert_eq!(of(2), [second]);
    assert_eq!(of(3), [second, b"connection refused"]);
    server.stop().await;
}
