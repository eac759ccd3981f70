//! The sockets of the DNS server.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::{Answer, answer},
    message::{self, Incoming, Question},
    upstream,
    zone::{DnsInput, Zone},
};
use crate::network::Cidr;

/// Questions that wait for upstream at the same time; more are answered with SERVFAIL at once.
const FORWARDS: usize = 1024;

/// Making the zone takes tens of milliseconds with 10,000 Services, in which nobody gets an answer: while everything
/// changes all the time, one part in so many at most.
const ZONE_SHARE: u32 = 10;

/// TCP connections at the same time; more are closed at once.
const CONNECTIONS: usize = 256;

/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// A client's question is never longer than this over UDP.
const QUESTION: usize = 4096;

/// Settings of the DNS server.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Where it listens: the gateway's address, port 53.
    pub listen: SocketAddr,
    /// The addresses that may ask: pods, and the host itself under the gateway's address.
    pub clients: Vec<Cidr>,
    /// The addresses of pods and Services, whose reverse names are ours.
    pub ranges: Vec<Cidr>,
    /// Who is asked for all other names, see [`super::resolvers`].
    pub resolvers: Vec<SocketAddr>,
}

/// The server's address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for DNS on {address}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clients: Vec<Cidr>,
    ranges: Vec<Cidr>,
    resolvers: Vec<SocketAddr>,
    /// `None` until the informers have synced.
    zone: watch::Sender<Option<Arc<Zone>>>,
    forwards: Semaphore,
}

impl Server {
    /// Takes the sockets.
    ///
    /// # Errors
    /// [`BindError`] when the address is not there (the bridge comes first) or taken.
    pub async fn bind(config: DnsConfig) -> Result<Self, BindError> {
        let failed = |source| BindError { address: config.listen, source };
        let tcp = TcpListener::bind(config.listen).await.map_err(failed)?;
        // With port 0, UDP follows to where TCP is.
        let udp = UdpSocket::bind(tcp.local_addr().map_err(failed)?).await.map_err(failed)?;
        let shared = Shared {
            clients: config.clients,
            ranges: config.ranges,
            resolvers: config.resolvers,
            zone: watch::Sender::new(None),
            forwards: Semaphore::new(FORWARDS),
        };
        Ok(Self { udp, tcp, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until `stop`. The input is `None` until the informers have synced: until then names of the cluster get
    /// SERVFAIL, on which clients ask again, and not the lie that they do not exist.
    pub async fn run(self, mut input: watch::Receiver<Option<DnsInput>>, stop: CancellationToken) {
        let Self { udp, tcp, shared } = self;
        let tasks = TaskTracker::new();
        let udp = Arc::new(udp);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let mut buffer = vec![0; QUESTION];
        let mut next_zone = shared.update(&input.borrow_and_update());
        let (mut changes, mut stale) = (true, false);
        loop {
            // All arms are cancel-safe: a datagram, connection or change that is not taken here is taken in the next round.
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next_zone), if stale => {
                    next_zone = shared.update(&input.borrow_and_update());
                    stale = false;
                }
                changed = input.changed(), if changes && !stale => match changed {
                    Ok(()) if Instant::now() < next_zone => stale = true,
                    Ok(()) => next_zone = shared.update(&input.borrow_and_update()),
                    Err(_closed) => changes = false,
                },
                received = udp.recv_from(&mut buffer) => match received {
                    Ok((length, peer)) => {
                        let (udp, shared, bytes) = (udp.clone(), shared.clone(), buffer[..length].to_vec());
                        let work = async move { shared.answer_datagram(&udp, &bytes, peer).await };
                        tasks.spawn(stop.clone().run_until_cancelled_owned(work));
                    }
                    // An earlier answer that could not be delivered is reported here; it concerns nobody else.
                    Err(error) => tracing::debug!("DNS: {error}"),
                },
                accepted = tcp.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(permit) = connections.clone().try_acquire_owned().ok().filter(|_| shared.may_ask(peer)) {
                            let shared = shared.clone();
                            let work = async move {
                                let _permit = permit;
                                if let Err(error) = shared.serve_connection(stream).await {
                                    tracing::debug!("DNS over TCP: {error}");
                                }
                            };
                            tasks.spawn(stop.clone().run_until_cancelled_owned(work));
                        }
                    }
                    Err(error) => {
                        tracing::warn!("DNS over TCP: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

impl Shared {
    /// Makes the zone of these objects; returns from when on it may be made again.
    fn update(&self, input: &Option<DnsInput>) -> Instant {
        let started = Instant::now();
        let Some(input) = input else { return started };
        self.zone.send_replace(Some(Arc::new(Zone::new(input, self.ranges.clone()))));
        Instant::now() + started.elapsed() * ZONE_SHARE
    }

    fn may_ask(&self, peer: SocketAddr) -> bool {
        match peer.ip() {
            IpAddr::V4(address) => self.clients.iter().any(|range| range.contains(address)),
            IpAddr::V6(_) => false,
        }
    }

    async fn answer_datagram(&self, socket: &UdpSocket, bytes: &[u8], peer: SocketAddr) {
        if !self.may_ask(peer) {
            return;
        }
        if let Some(response) = self.respond(bytes, false).await
            && let Err(error) = socket.send_to(&response, peer).await
        {
            tracing::debug!("DNS answer to {peer}: {error}");
        }
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = async {
                let length = stream.read_u16().await?;
                let mut bytes = vec![0; usize::from(length)];
                stream.read_exact(&mut bytes).await?;
                io::Result::Ok(bytes)
            };
            let bytes = match timeout(IDLE, question).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(outcome) => outcome?,
                Err(_elapsed) => return Ok(()),
            };
            let Some(response) = self.respond(&bytes, true).await else { return Ok(()) };
            timeout(IDLE, stream.write_all(&upstream::framed(&response)?)).await??;
        }
    }

    async fn respond(&self, bytes: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let question = match message::read(bytes) {
            Incoming::Question(question) => question,
            Incoming::Refuse(refusal) => return Some(refusal),
            Incoming::Ignore => return None,
        };
        let limit = if over_tcp { usize::from(u16::MAX) } else { question.payload() };
        let zone = self.zone.borrow().clone();
        let empty = || Zone::new(&DnsInput::default(), self.ranges.clone());
        let found = match &zone {
            Some(zone) => answer(zone, &question.name, &question.record_type, question.id().into()),
            None => match answer(&empty(), &question.name, &question.record_type, 0) {
                Answer::Forward => Answer::Forward,
                _not_known_yet => return message::write(question.failure(), limit),
            },
        };
        match found {
            Answer::Records { answers, additional } => message::write(question.records(&answers, &additional), limit),
            Answer::NoName => message::write(question.no_name(), limit),
            Answer::Alias { name: _, target } => {
                message::write(self.complete(&question, &target, over_tcp).await, limit)
            }
            Answer::Forward => match self.forward(bytes, over_tcp).await {
                Some(response) => Some(response),
                None => message::write(question.failure(), limit),
            },
        }
    }

    async fn complete(&self, question: &Question, target: &str, over_tcp: bool) -> hickory_proto::op::Message {
        let found = match question.for_target(target, rand::random()) {
            Some(bytes) => self.forward(&bytes, over_tcp).await,
            None => None,
        };
        question.alias(target, found.as_deref())
    }

    async fn forward(&self, bytes: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let _permit = self.forwards.try_acquire().ok()?;
        upstream::ask(&self.resolvers, bytes, over_tcp).await
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
