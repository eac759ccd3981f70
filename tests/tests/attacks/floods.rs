//! A11, A12 and A16: clients that want to use the server up. Each flood ends with others being served, and with the
//! server's memory bounded.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use drover_tests::attack::{Server, Stream};
use futures::future::join_all;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// Whatever a flood may hold of the server's memory, with the rest of a debug build's noise.
const GROWTH_MIB_MAX: i64 = 96;
/// A flood that the server lets wait makes no progress for so long: it is held back, which is as good as cut off.
const STALLED: Duration = Duration::from_secs(3);
/// The server drops silent clients after 10 s; a loaded machine may take longer.
const DROPPED_BY: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames of tests are short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET /livez` in HPACK, without compression.
fn get_livez() -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, 6];
    block.extend_from_slice(b"/livez");
    block.extend_from_slice(&[0x01, 9]);
    block.extend_from_slice(b"localhost");
    block
}

/// How a flood went.
struct Flooded {
    /// The server closed the connection.
    cut_off: bool,
    sent: usize,
}

/// Sends frames until the server hangs up, lets the writer wait, or has taken all.
async fn flood(stream: Stream, reads: bool, frames: impl Iterator<Item = Vec<u8>>) -> Result<Flooded> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let drain = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        if !reads {
            std::future::pending::<()>().await;
        }
        while let Ok(1..) = reader.read(&mut buffer).await {}
    });
    let mut sent = 0;
    let start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let mut cut_off = false;
    for bytes in std::iter::once(start).chain(frames) {
        match timeout(STALLED, writer.write_all(&bytes)).await {
            Ok(Ok(())) => sent += bytes.len(),
            Ok(Err(_)) => {
                cut_off = true;
                break;
            }
            Err(_) => break,
        }
    }
    cut_off |= drain.is_finished();
    drain.abort();
    Ok(Flooded { cut_off, sent })
}

/// Checks that others are served and that the memory is bounded.
async fn check(server: &Server, what: &str, before: u64, flooded: &Flooded) -> Result<()> {
    let answer = server.send("admin", "GET", "/api/v1/namespaces", None).await?;
    ensure!(answer.code == 200, "{what}: others got {}", answer.code);
    let grown = i64::try_from(server.resident_kib()?)? - i64::try_from(before)?;
    eprintln!("{what}: cut off {}, sent {} KiB, the server grew by {grown} KiB", flooded.cut_off, flooded.sent >> 10);
    ensure!(grown < GROWTH_MIB_MAX << 10, "{what}: the server grew by {grown} KiB");
    Ok(())
}

#[tokio::test]
async fn floods_of_frames_are_cut_off_or_held_back() -> Result<()> {
    let server = Server::start().await?;
    let requests = |count: u32, next: fn(u32) -> Vec<u8>| (0..count).map(move |index| next(index * 2 + 1));
    let reset = |stream: u32| {
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_livez());
        [headers, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    // The server itself resets what is wrong: a window update of nothing (CVE-2025-8671).
    let made_to_reset = |stream: u32| {
        let headers = frame(HEADERS, END_HEADERS, stream, &get_livez());
        [headers, frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())].concat()
    };
    // Only the first block ends up in the table; every later byte asks for all of it again.
    let bomb = || {
        let mut block = get_livez();
        block.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0x81, 0x1d]);
        block.extend_from_slice(&[b'y'; 3840]);
        block.extend(std::iter::repeat_n(0xbe, 12_000));
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
    };
    let endless = std::iter::once(frame(HEADERS, END_STREAM, 1, &get_livez()))
        .chain(std::iter::repeat_n(frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b'].repeat(3000)), 4000));
    let empty = std::iter::once(frame(HEADERS, END_HEADERS, 1, &get_livez()))
        .chain(std::iter::repeat_n(frame(DATA, 0, 1, &[]), 200_000));
    type Frames = Box<dyn Iterator<Item = Vec<u8>> + Send>;
    let table: [(&str, bool, Frames); 8] = [
        ("rapid reset", true, Box::new(requests(50_000, reset))),
        ("made to reset", true, Box::new(requests(50_000, made_to_reset))),
        ("continuation without end", true, Box::new(endless)),
        ("headers that unpack to 48 MB", true, Box::new(std::iter::once(bomb()))),
        ("settings, never read", false, Box::new(std::iter::repeat_n(frame(SETTINGS, 0, 0, &[]), 200_000))),
        ("pings, never read", false, Box::new(std::iter::repeat_n(frame(PING, 0, 0, &[7; 8]), 200_000))),
        ("empty data", true, Box::new(empty)),
        ("a frame of 16 MiB", true, Box::new(std::iter::once(vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]))),
    ];
    for (what, reads, frames) in table {
        let before = server.resident_kib()?;
        let flooded = flood(server.connect("admin", "h2").await?, reads, frames).await?;
        check(&server, what, before, &flooded).await?;
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_say_nothing_or_not_enough_are_dropped() -> Result<()> {
    let server = Server::start().await?;
    let started = Instant::now();
    // One byte a second would go on for ever; the server must not wait for the end of it.
    let drip = async |mut stream: Stream, text: &[u8]| -> Result<()> {
        for byte in text.iter().cycle() {
            let mut buffer = [0; 1024];
            if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
                return Ok(());
            }
            if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(500), stream.read(&mut buffer)).await {
                return Ok(());
            }
        }
        Ok(())
    };
    let silent = async |mut stream: Stream| -> Result<()> {
        let mut buffer = [0; 1024];
        while let Ok(1..) = stream.read(&mut buffer).await {}
        Ok(())
    };
    let tcp = async {
        let mut stream = TcpStream::connect(&server.address).await?;
        while let Ok(1..) = stream.read(&mut [0; 64]).await {}
        anyhow::Ok(())
    };
    let old = async { silent(server.connect("admin", "http/1.1").await?).await };
    let new = async { silent(server.connect("admin", "h2").await?).await };
    let none = async { silent(server.connect("admin", "x").await?).await };
    let slow = async { drip(server.connect("admin", "http/1.1").await?, b"GET /livez HTTP/1.1\r\nx: ").await };
    let slow_preface = async { drip(server.connect("admin", "h2").await?, b"PRI * HTTP/2.0\r\n").await };
    let all = timeout(
        DROPPED_BY,
        Box::pin(async {
            let (tcp, old, new, none, slow, preface) = tokio::join!(tcp, old, new, none, slow, slow_preface);
            // A protocol that nobody speaks is refused in the handshake already.
            drop(none);
            tcp.and(old).and(new).and(slow).and(preface)
        }),
    );
    all.await.context("a silent client was never dropped")??;
    println!("all were dropped after {:?}", started.elapsed());
    Ok(())
}

async fn client(server: &Server, role: &str) -> Result<http2::SendRequest<Full<Bytes>>> {
    let stream = server.connect(role, "h2").await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A user who may read what there is to read, and so much of it that no answer fits into the windows of a connection.
async fn world(server: &Server) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    server
        .create(&json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "flooder", "namespace": "default"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "apiGroup": group, "name": "flooder"}]}))
        .await?;
    for number in 0..8 {
        server
            .create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("big-{number}")},
                "data": {"k": "x".repeat(300_000)}}))
            .await?;
    }
    server
        .create(&json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n1"}}))
        .await
}

#[tokio::test]
async fn a_flood_of_lists_is_told_to_wait_while_heartbeats_go_through() -> Result<()> {
    let server = Server::start().await?;
    world(&server).await?;
    let before = server.resident_kib()?;
    let mut senders = Vec::new();
    for _ in 0..2 {
        senders.push(client(&server, "user:flooder").await?);
    }
    // Nobody reads what comes back: each list that is served keeps its seats.
    let url = format!("https://{}/api/v1/namespaces/default/configmaps?limit=0", server.address);
    let mut requests = Vec::new();
    for index in 0..1200 {
        let request = http::Request::get(&url).body(Full::default())?;
        let sender = &mut senders[index % 2];
        sender.ready().await?;
        requests.push(tokio::spawn(sender.send_request(request)));
    }
    let (mut refused, mut slow, mut unread) = (0, Duration::ZERO, Vec::new());
    // The answers that come at once are those to the ones that found the queue full.
    let first = async {
        while refused == 0 {
            for request in requests.extract_if(.., |request| request.is_finished()) {
                let response = request.await??;
                if response.status() == 429 {
                    ensure!(response.headers().contains_key("retry-after"), "429 without Retry-After");
                    refused += 1;
                } else {
                    unread.push(response); // its stream stays open
                }
            }
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    timeout(DROPPED_BY, first).await.context("nobody was told to wait")??;
    for _ in 0..20 {
        let started = Instant::now();
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
        let headers = [("content-type".to_owned(), "application/merge-patch+json".to_owned())];
        let beat = json!({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}).to_string();
        let answers = server.exchange("node:n1", "PATCH", path, &headers, beat.as_bytes()).await?;
        let answer = answers.first().context("an answer")?;
        ensure!(answer.code == 200, "heartbeat: {}", answer.text());
        slow = slow.max(started.elapsed());
    }
    let other = server.send("admin", "GET", "/api/v1/namespaces", None).await?;
    ensure!(other.code == 200, "others: {}", other.code);
    let grown = i64::try_from(server.resident_kib()?)? - i64::try_from(before)?;
    println!("{refused} told to wait at first sight, slowest heartbeat {slow:?}, the server grew by {grown} KiB");
    ensure!(grown < GROWTH_MIB_MAX << 10, "the server grew by {grown} KiB");
    Ok(())
}

#[tokio::test]
async fn one_user_has_so_many_watches_and_no_more() -> Result<()> {
    const WATCHES_MAX: usize = 1000;
    let server = Server::start().await?;
    world(&server).await?;
    let url = format!("https://{}/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0", server.address);
    let mut senders = [client(&server, "user:flooder").await?, client(&server, "user:flooder").await?];
    let mut requests = Vec::new();
    for index in 0..WATCHES_MAX + 50 {
        let request = http::Request::get(&url).body(Full::default())?;
        let sender = &mut senders[index % 2];
        sender.ready().await?;
        requests.push(sender.send_request(request));
    }
    let answers = join_all(requests).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let refused = answers.iter().filter(|answer| answer.status() == 429).count();
    ensure!(refused == 50, "{refused} of {} watches were refused", answers.len());
    let other =
        server.send("admin", "GET", "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1", None).await?;
    ensure!(other.code == 200, "others: {}", other.code);
    Ok(())
}
