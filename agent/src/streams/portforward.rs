//! Port-forward: a connection to a port inside a pod's network name space, its bytes both ways.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use nix::sched::{CloneFlags, setns};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

use super::{
    logs::find_pod,
    reply::{Body, Failure, stream_response},
    routes::PodName,
};
use crate::seams::{PodDirectory, PodRecord};

/// A port on the same machine answers at once or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const PIECE_BYTES: usize = 32 * 1024;

/// Answers a request for a pod's port.
pub(super) async fn forward(
    directory: &PodDirectory,
    pod: &PodName,
    port: u16,
    input: Incoming,
) -> Result<Response<Body>, Failure> {
    let record = find_pod(directory, pod)?;
    let socket = connect(&record, port).await.map_err(|error| {
        Failure::internal(format!("failed to connect to port {port} of pod {:?}: {error}", pod.name))
    })?;
    let (pieces, response) = stream_response("application/octet-stream");
    tokio::spawn(copy(socket, input, pieces));
    Ok(response)
}

/// Connects to the loopback address inside the pod, where a pod's own processes would; else to the pod's address.
async fn connect(pod: &PodRecord, port: u16) -> io::Result<TcpStream> {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Some(netns) = pod.netns.clone() else { return dial(local).await };
    match dial_inside(netns, local).await {
        Ok(socket) => Ok(socket),
        Err(error) => match pod.address.filter(|address: &IpAddr| !address.is_loopback()) {
            Some(address) => dial(SocketAddr::from((address, port))).await.map_err(|_| error),
            None => Err(error),
        },
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Dials from a thread of its own inside the name space: a thread that has changed it must never run anything else.
async fn dial_inside(netns: PathBuf, address: SocketAddr) -> io::Result<TcpStream> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        // The receiver is gone only when the client is.
        let _ = done.send(dial_here(&netns, address));
    })?;
    let socket = result.await.map_err(io::Error::other)??;
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

fn dial_here(netns: &Path, address: SocketAddr) -> io::Result<std::net::TcpStream> {
    setns(std::fs::File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    std::net::TcpStream::connect_timeout(&address, CONNECT_DEADLINE)
}

/// How the direction from the pod ended.
enum Downward {
    PodClosed,
    ClientGone,
}

/// Copies both ways until both have ended or the client is gone. The body ends with the pod's own end, while what the
/// client still sends goes on.
async fn copy(socket: TcpStream, input: Incoming, pieces: mpsc::Sender<Bytes>) {
    let (from_pod, to_pod) = socket.into_split();
    let (upward, downward) = (copy_up(input, to_pod), copy_down(from_pod, pieces));
    tokio::pin!(upward, downward);
    // Cancel-safe: neither is dropped before its end, unless the client is gone.
    tokio::select! {
        () = &mut upward => {
            downward.await;
        }
        ended = &mut downward => match ended {
            Downward::PodClosed => upward.await,
            Downward::ClientGone => {}
        },
    }
}

async fn copy_up(mut input: Incoming, mut pod: OwnedWriteHalf) {
    while let Some(Ok(frame)) = input.frame().await {
        if let Ok(bytes) = frame.into_data()
            && pod.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
    // A pod that has closed already needs no half-close.
    let _ = pod.shutdown().await;
}

async fn copy_down(mut pod: OwnedReadHalf, pieces: mpsc::Sender<Bytes>) -> Downward {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        // Cancel-safe: reads that are dropped have taken nothing.
        let read = tokio::select! {
            () = pieces.closed() => return Downward::ClientGone,
            read = pod.read(&mut buffer) => read,
        };
        let Ok(n @ 1..) = read else { return Downward::PodClosed };
        let piece = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
        if pieces.send(piece).await.is_err() {
            return Downward::ClientGone;
        }
    }
}
