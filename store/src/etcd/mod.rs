//! The etcd backend: one revision space, shared by every server on it.
//!
//! Maps the store's words onto etcd's: its revision is ours, a transaction is a `Txn`, a watch is a watch over all our
//! keys. Every request has a deadline. Reads are linearizable and tried again until the deadline; a write is sent once,
//! because nobody knows whether one without an answer happened.

mod convert;
mod endpoints;
mod maintenance;
mod read;
mod watch;
mod write;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, KvClient, TlsOptions, Txn, TxnResponse,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use self::convert::Keyspace;
use self::endpoints::Endpoints;
use crate::{
    Backend, ChangeStream, Error, Health, KeyValue, Range, RangeResult, Retention, Revision, Transaction,
    TransactionResult,
};

/// Answers may be so large: a full page of the largest objects.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Pause before a request that found no etcd is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Certificates for etcd, all in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authorities that may have signed etcd's certificate.
    pub ca: Vec<u8>,
    /// Our certificate and key, for an etcd that asks for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in etcd's certificate, when it is not the host in the endpoint.
    pub domain: Option<String>,
}

impl fmt::Debug for Tls {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// How to talk to etcd.
#[derive(Clone)]
pub struct Options {
    /// Certificates; `None` talks plain text.
    pub tls: Option<Tls>,
    /// User and password, for an etcd with authentication.
    pub user: Option<(String, String)>,
    /// Every key of ours starts with this, so that several clusters can share an etcd.
    pub prefix: String,
    /// Longest time for making a connection.
    pub connect_timeout: Duration,
    /// Longest time for a request, including attempts on other endpoints.
    pub request_timeout: Duration,
    /// A connection that answers no ping for so long is given up, and its watches end.
    pub keep_alive: Duration,
    /// How much history is kept.
    pub retention: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            user: None,
            prefix: "/drover".to_owned(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(5),
            retention: Retention::default(),
        }
    }
}

impl fmt::Debug for Options {
    /// Says nothing of the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A store in etcd.
#[derive(Debug)]
pub struct Etcd {
    shared: Arc<Shared>,
    /// End with the store.
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Etcd {
    /// Connects, and makes sure that etcd answers. Must be called on a tokio runtime, which then runs the maintenance.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answers in time, or etcd does not let us in.
    pub async fn connect<E: AsRef<str>>(endpoints: &[E], options: Options) -> Result<Arc<Self>, Error> {
        let endpoints: Vec<&str> = endpoints.iter().map(AsRef::as_ref).collect();
        let connect = || Endpoints::connect(&endpoints, &options);
        let connected = by_deadline(options.request_timeout, convert::is_transient, connect).await;
        let shared = Arc::new(Shared {
            endpoints: connected.map_err(|err| convert::error(&err))?,
            keyspace: Keyspace::new(&options.prefix),
            request_timeout: options.request_timeout,
            wanted: tokio::sync::watch::Sender::new(0),
            health: Mutex::new(Health::default()),
        });
        let watchdog = AbortOnDropHandle::new(tokio::spawn(endpoints::watch(Arc::clone(&shared))));
        shared.revision().await?;
        let maintenance = tokio::spawn(maintenance::run(Arc::clone(&shared), options.retention));
        Ok(Arc::new(Self { shared, _tasks: [watchdog, AbortOnDropHandle::new(maintenance)] }))
    }

    /// Counters of the maintenance, and the newest revision seen.
    pub fn health(&self) -> Health {
        let mut health = self.shared.health().clone();
        health.revision = *self.shared.wanted.borrow();
        health
    }
}

#[async_trait]
impl Backend for Etcd {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        let key = self.shared.keyspace.data(key);
        let mut found = self.shared.read(&key, GetOptions::new()).await?;
        Ok(found.take_kvs().into_iter().next().map(|kv| self.shared.keyspace.key_value(kv)))
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.shared.range(&range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.shared.commit(transaction).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let newest = self.shared.revision().await?;
        if after > newest {
            return Err(Error::Future { asked: after, newest });
        }
        watch::open(Arc::clone(&self.shared), prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.shared.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.shared.compact(revision).await
    }
}

/// The connection and what its users share.
struct Shared {
    endpoints: Endpoints,
    keyspace: Keyspace,
    request_timeout: Duration,
    /// The newest revision that anybody was told; watches see to it that they get there.
    wanted: tokio::sync::watch::Sender<Revision>,
    health: Mutex<Health>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

impl Shared {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request until it is answered or the deadline has passed, again only as `repeat` allows. Each attempt goes
    /// to the member that is in use by then.
    async fn request<T, F>(&self, repeat: Repeat, send: impl Fn(&Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + self.request_timeout;
        loop {
            let (index, client) = self.endpoints.current();
            let answer = tokio::select! {
                biased;
                // Not resumed: what happens to a request that is given up is `repeat`'s to say.
                answer = timeout_at(deadline, send(client)) => Some(answer.map_err(|_| too_late(self.request_timeout))?),
                () = self.endpoints.moved_from(index) => None,
            };
            match answer {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(err)) if repeat.allows(&err) && Instant::now() + RETRY_PAUSE < deadline => {
                    self.endpoints.give_up(index);
                    sleep(RETRY_PAUSE).await;
                }
                Some(Err(err)) => return Err(convert::error(&err)),
                None if repeat == Repeat::Read => {}
                None => return Err(Error::Unavailable("etcd: the member asked stopped answering".to_owned())),
            }
        }
    }

    /// A linearizable read.
    async fn read(&self, key: &[u8], options: GetOptions) -> Result<GetResponse, Error> {
        self.request(Repeat::Read, |client| {
            let (mut kv, options) = (kv(client), options.clone());
            async move { kv.get(key, Some(options)).await }
        })
        .await
    }

    /// A transaction, sent once: without an answer only reading tells whether it happened.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.request(Repeat::Unsent, |client| {
            let (mut kv, txn) = (kv(client), txn.clone());
            async move { kv.txn(txn).await }
        })
        .await
    }

    /// The revision of a read that finds nothing: one round trip, whatever the store holds.
    async fn revision(&self) -> Result<Revision, Error> {
        let key = self.keyspace.meta("revision");
        let found = self.read(&key, GetOptions::new().with_count_only()).await?;
        let revision = convert::header_revision(found.header());
        self.wanted.send_if_modified(|wanted| {
            let newer = revision > *wanted;
            *wanted = revision.max(*wanted);
            newer
        });
        Ok(revision)
    }

    /// Fills the numbers in that etcd leaves out of its errors.
    async fn explain(&self, error: Error, asked: Revision) -> Error {
        match error {
            Error::Compacted { .. } => match self.oldest().await {
                Ok(oldest) => Error::Compacted { oldest },
                Err(unknown) => unknown,
            },
            Error::Future { .. } => match self.revision().await {
                Ok(newest) => Error::Future { asked, newest },
                Err(unknown) => unknown,
            },
            Error::Full(_) | Error::Unavailable(_) | Error::Locked(_) | Error::Broken(_) => error,
        }
    }
}

/// After which failures a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// After all that may pass: it changes nothing, or the same when done twice.
    Read,
    /// Only when it has not left.
    Unsent,
}

impl Repeat {
    fn allows(self, err: &etcd_client::Error) -> bool {
        match self {
            Self::Read => convert::is_transient(err),
            Self::Unsent => convert::was_not_sent(err),
        }
    }
}

fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn too_late(timeout: Duration) -> Error {
    Error::Unavailable(format!("etcd: no answer within {timeout:?}"))
}

/// Repeats `send` after errors that `repeat` allows, until the timeout has passed.
async fn by_deadline<T, F>(
    timeout: Duration,
    repeat: fn(&etcd_client::Error) -> bool,
    send: impl Fn() -> F,
) -> Result<T, etcd_client::Error>
where
    F: Future<Output = Result<T, etcd_client::Error>>,
{
    let deadline = Instant::now() + timeout;
    loop {
        match timeout_at(deadline, send()).await {
            Ok(Err(err)) if repeat(&err) && Instant::now() + RETRY_PAUSE < deadline => sleep(RETRY_PAUSE).await,
            Ok(answer) => return answer,
            Err(_) => {
                let text = format!("no answer within {timeout:?}");
                return Err(etcd_client::Error::IoError(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
        }
    }
}

fn connect_options(options: &Options) -> ConnectOptions {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(options.connect_timeout)
        .with_keep_alive(options.keep_alive, options.keep_alive)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some((name, password)) = &options.user {
        connect = connect.with_user(name, password);
    }
    if let Some(tls) = &options.tls {
        let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(domain) = &tls.domain {
            config = config.domain_name(domain);
        }
        connect = connect.with_tls(config);
    }
    connect
}
