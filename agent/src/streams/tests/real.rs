//! Logs and exec of a container on a real engine.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, channel::mpsc};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::{
    clock::Clock,
    engine::{ContainerConfig, DockerEngine, Engine},
    ids::{ContainerId, PodUid},
    seams::{ContainerRecord, PodDirectory, PodRecord},
    streams::{
        StreamService,
        frames::{CLOSE, ERROR, STDERR, STDIN, STDOUT, encode},
        tunnel::serve,
    },
    testing::RealEngine,
};

type Body = BoxBody<Bytes, Infallible>;

struct Lab {
    client: SendRequest<Body>,
    engine: Arc<dyn Engine>,
    id: ContainerId,
}

async fn lab(real: &RealEngine, script: &str) -> Lab {
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::new(RealEngine::ENDPOINT));
    let config = ContainerConfig {
        image: real.image().to_owned(),
        entrypoint: Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()),
        network_mode: "none".to_owned(),
        ..Default::default()
    };
    let id = engine.create_container(&format!("drover-streams-{}", real.unique()), &config).await.unwrap();
    engine.start_container(&id).await.unwrap();
    let record = ContainerRecord { current: Some(id.clone()), running: true, ..Default::default() };
    let directory = PodDirectory::default();
    directory.put(PodRecord {
        uid: PodUid::new("u-1").unwrap(),
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
        address: None,
        netns: None,
        containers: BTreeMap::from([("app".to_owned(), record)]),
    });
    let service = StreamService::new(Arc::clone(&engine), directory, Clock::System);
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move { serve(Box::new(near), &service).await });
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(far)).await.unwrap();
    tokio::spawn(connection);
    Lab { client, engine, id }
}

impl Lab {
    /// Sends a request and returns everything that comes back.
    async fn ask(&mut self, method: &str, path: &str, input: Vec<Bytes>) -> Vec<u8> {
        let input = futures::stream::iter(input).map(|bytes| Ok(Frame::data(bytes)));
        let uri = format!("http://agent/v1{path}");
        let request = Request::builder().method(method).uri(uri).body(BodyExt::boxed(StreamBody::new(input)));
        let response = self.client.send_request(request.unwrap()).await.unwrap();
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(code.is_success(), "{code}: {}", String::from_utf8_lossy(&body));
        body.to_vec()
    }

    async fn exec(&mut self, command: &[&str], flags: &str, input: Vec<Bytes>) -> BTreeMap<u8, Vec<u8>> {
        let encode = |word: &str| word.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let words: Vec<String> = command.iter().map(|word| format!("command={}", encode(word))).collect();
        let path = format!("/exec/ns/web/app?{}&stdout=true&stderr=true{flags}", words.join("&"));
        let bytes = self.ask("POST", &path, input).await;
        let (mut channels, mut rest) = (BTreeMap::<u8, Vec<u8>>::new(), bytes.as_slice());
        while let Some((header, after)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let (payload, after) = after.split_at(length);
            channels.entry(header[0]).or_default().extend_from_slice(payload);
            rest = after;
        }
        channels
    }
}

#[tokio::test]
async fn logs_are_followed_to_the_containers_end_and_read_after_it() {
    let Some(real) = RealEngine::prepare() else { return };
    let mut lab = lab(&real, "echo one; echo two >&2; sleep 0.3; echo three; exit 3").await;
    let text = lab.ask("GET", "/logs/ns/web/app?follow=true", Vec::new()).await;
    let mut lines: Vec<&str> = std::str::from_utf8(&text).unwrap().lines().collect();
    assert_eq!(lines.pop(), Some("three"));
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"], "two pipes have no order between them");
    let text = lab.ask("GET", "/logs/ns/web/app?tailLines=1&timestamps=true", Vec::new()).await;
    let text = String::from_utf8(text).unwrap();
    let (stamp, line) = text.split_once(' ').unwrap();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok() && line == "three\n", "{text}");
    let since = stamp.parse::<jiff::Timestamp>().unwrap();
    let path = format!("/logs/ns/web/app?sinceTime={}", since.to_string().replace(':', "%3A"));
    assert_eq!(lab.ask("GET", &path, Vec::new()).await, b"three\n");
}

#[tokio::test]
async fn a_command_gets_its_input_and_gives_its_output_and_exit_code() {
    let Some(real) = RealEngine::prepare() else { return };
    let mut lab = lab(&real, "sleep 1000").await;
    let seen = lab.exec(&["sh", "-c", "echo out; echo err >&2; exit 42"], "", Vec::new()).await;
    assert_eq!((seen[&STDOUT].as_slice(), seen[&STDERR].as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    assert!(String::from_utf8_lossy(&seen[&ERROR]).contains(r#""message":"42""#));

    // A megabyte of every byte there is, which `cat` gives back once its input has ended.
    let binary: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let mut input: Vec<Bytes> = binary.chunks(32_768).map(|chunk| encode(STDIN, chunk)).collect();
    input.push(encode(CLOSE, &[STDIN]));
    let seen = lab.exec(&["cat"], "&stdin=true", input).await;
    assert!(seen[&STDOUT] == binary, "{} of {} bytes", seen[&STDOUT].len(), binary.len());
    assert!(String::from_utf8_lossy(&seen[&ERROR]).contains("Success"));

    let seen = lab.exec(&["sh", "-c", "test -t 1 && echo terminal"], "&tty=true", Vec::new()).await;
    assert_eq!(seen[&STDOUT], b"terminal\r\n");
    lab.engine.kill_container(&lab.id, "SIGKILL").await.unwrap();
}

#[tokio::test]
async fn a_client_that_stops_sending_does_not_stop_the_rest() {
    let Some(real) = RealEngine::prepare() else { return };
    let mut lab = lab(&real, "sleep 1000").await;
    // An exec that reads input which never comes is left hanging; others go on beside it.
    let (hold, input) = mpsc::unbounded::<Bytes>();
    let input = input.map(|bytes| Ok(Frame::data(bytes)));
    let request = Request::post("http://agent/v1/exec/ns/web/app?command=cat&stdin=true&stdout=true");
    let request = request.body(BodyExt::boxed(StreamBody::new(input))).unwrap();
    let hanging = lab.client.send_request(request).await.unwrap();
    let seen = lab.exec(&["echo", "hi"], "", Vec::new()).await;
    assert_eq!(seen[&STDOUT], b"hi\n");
    drop((hanging, hold));
    lab.engine.kill_container(&lab.id, "SIGKILL").await.unwrap();
}
