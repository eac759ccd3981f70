//! What only etcd has: connections that break, other tenants, several servers, certificates and passwords.

use std::path::Path;
use std::time::{Duration, Instant};

use drover_store::etcd::{Etcd, Options, Tls};
use drover_store::{Backend, Error, Retention};
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::etcd::{Server, test_options};
use crate::harness::{Harness, PATIENCE, Watch, changes_until, put};

#[tokio::test]
async fn a_watch_whose_etcd_goes_away_ends_and_can_be_resumed_without_a_gap() {
    let Some(mut server) = Server::start().await else { return };
    let store = server.backend();
    let after = put(&*store, "/a", "1").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    let seen = put(&*store, "/a", "2").await;
    assert_eq!(watch.text().await, "~/a=2 (1)");
    server.stop();
    assert!(matches!(watch.next().await, Err(Error::Unavailable(_))));
    server.restart();
    let other = server.connect(test_options()).await;
    put(&*other, "/a", "3").await;
    // The old connection comes back by itself.
    let revision = store.revision().await.unwrap();
    let mut watch = Watch::open(&*store, "/", seen).await;
    assert_eq!(watch.text().await, "~/a=3 (2)");
    assert!(revision > seen);
}

#[tokio::test]
async fn every_request_to_an_etcd_that_is_gone_fails_within_its_deadline() {
    let Some(mut server) = Server::start().await else { return };
    let options = Options { request_timeout: Duration::from_millis(400), ..test_options() };
    let store = server.connect(options.clone()).await;
    put(&*store, "/a", "1").await;
    server.stop();
    let begun = Instant::now();
    assert!(matches!(store.get(b"/a").await, Err(Error::Unavailable(_))));
    assert!(matches!(store.revision().await, Err(Error::Unavailable(_))));
    assert!(matches!(store.compact(1).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.commit(drover_store::Transaction::default()).await, Err(Error::Unavailable(_))));
    assert!(store.changes(b"/", 0).await.is_err());
    assert!(Etcd::connect(&[server.endpoint()], options).await.is_err());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dead_endpoint_beside_a_live_one_does_no_harm() {
    let Some(server) = Server::start().await else { return };
    let dead = "http://127.0.0.1:1".to_owned();
    let store = Etcd::connect(&[dead, server.endpoint()], test_options()).await.unwrap();
    for n in 0..20 {
        put(&*store, "/a", &n.to_string()).await;
        assert!(store.get(b"/a").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn progress_reaches_the_revision_though_others_write_to_the_same_etcd() {
    let Some(server) = Server::start().await else { return };
    let store = server.backend();
    let other = server.connect(Options { prefix: "/somebody-else".to_owned(), ..test_options() }).await;
    let after = put(&*store, "/a", "1").await;
    let foreign = put(&*other, "/a", "theirs").await;
    assert!(foreign > after);
    let mut changes = store.changes(b"/", after).await.unwrap();
    let newest = store.revision().await.unwrap();
    assert!(newest >= foreign);
    let mut reached = after;
    while reached < newest {
        let item = tokio::time::timeout(PATIENCE, changes.next()).await.expect("progress").unwrap().unwrap();
        assert_eq!(item.events, [], "nothing of ours happened");
        reached = item.revision;
    }
    assert_eq!(store.get(b"/a").await.unwrap().unwrap().value, "1", "tenants do not see each other");
}

#[tokio::test]
async fn servers_on_one_etcd_share_the_work_of_compaction() {
    let Some(server) = Server::start().await else { return };
    let retention = Retention { keep_revisions: 20, interval: Duration::from_millis(20) };
    let options = Options { retention, ..test_options() };
    let servers =
        [server.connect(options.clone()).await, server.connect(options.clone()).await, server.connect(options).await];
    let first = put(&*servers[0], "/a", "0").await;
    let give_up = Instant::now() + PATIENCE;
    let compactions = || servers.iter().map(|server| server.health().compactions).sum::<u64>();
    while compactions() < 3 {
        assert!(Instant::now() < give_up, "no compaction");
        put(&*servers[0], "/a", "x").await;
    }
    assert!(servers.iter().all(|server| server.health().maintenance_failures == 0));
    assert!(matches!(crate::harness::watch_error(&*servers[1], "/", first).await, Error::Compacted { .. }));
    let newest = servers[2].revision().await.unwrap();
    let kept = changes_until(&*servers[2], "/", newest - 5, newest).await;
    assert_eq!(kept.last().unwrap().revision, newest, "what is retained is there");
}

#[tokio::test]
async fn an_etcd_with_client_certificates_and_passwords_lets_only_the_right_ones_in() {
    let dir = tempfile::tempdir().unwrap();
    let tls = write_certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let args = vec![
        format!("--cert-file={}", file("server.pem")),
        format!("--key-file={}", file("server.key")),
        format!("--trusted-ca-file={}", file("ca.pem")),
        "--client-cert-auth".to_owned(),
    ];
    let options = Options { tls: Some(tls.clone()), request_timeout: Duration::from_secs(2), ..test_options() };
    let Some(server) = Server::start_with(dir, "https", args, options.clone()).await else { return };
    put(&*server.backend(), "/a", "1").await;

    let nameless = Options { tls: Some(Tls { identity: None, ..tls.clone() }), ..options.clone() };
    assert!(Etcd::connect(&[server.endpoint()], nameless).await.is_err(), "no certificate, no entry");

    enable_passwords(&server.endpoint(), &tls).await;
    let with_password = |password: &str| {
        let user = Some(("root".to_owned(), password.to_owned()));
        Options { user, ..options.clone() }
    };
    assert!(Etcd::connect(&[server.endpoint()], with_password("wrong")).await.is_err());
    let store = Etcd::connect(&[server.endpoint()], with_password("right")).await.unwrap();
    let after = put(&*store, "/a", "2").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    put(&*store, "/a", "3").await;
    assert_eq!(watch.text().await, "~/a=3 (2)");
    let shown = format!("{:?}", with_password("right"));
    assert!(!shown.contains("right"), "a password must not be printed: {shown}");
}

/// An authority, and a certificate each for etcd and for us.
fn write_certificates(dir: &Path) -> Tls {
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let issue = |names: Vec<String>| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    };
    let (server, server_key) = issue(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]);
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.join("server.pem"), server).unwrap();
    std::fs::write(dir.join("server.key"), server_key).unwrap();
    Tls { ca: authority.pem().into_bytes(), identity: Some(issue(vec!["drover".to_owned()])), domain: None }
}

async fn enable_passwords(endpoint: &str, tls: &Tls) {
    let (certificate, key) = tls.identity.clone().unwrap();
    let config = etcd_client::TlsOptions::new()
        .ca_certificate(etcd_client::Certificate::from_pem(&tls.ca))
        .identity(etcd_client::Identity::from_pem(certificate, key));
    let options = etcd_client::ConnectOptions::new().with_tls(config);
    let mut client = etcd_client::Client::connect([endpoint], Some(options)).await.unwrap();
    client.user_add("root", "right", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
}

#[tokio::test]
async fn a_member_that_hangs_beside_one_that_answers_costs_a_second_and_no_more() {
    let Some(server) = Server::start().await else { return };
    // Accepts connections and never says a word, as a paused process does.
    let paused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", paused.local_addr().unwrap());
    let store = Etcd::connect(&[endpoint, server.endpoint()], test_options()).await.unwrap();
    let begun = Instant::now();
    let after = put(&*store, "/a", "1").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    for n in 0..20 {
        put(&*store, "/a", &n.to_string()).await;
        assert!(store.get(b"/a").await.unwrap().is_some());
    }
    assert_eq!(watch.text().await, "~/a=0 (1)");
    // Twenty requests at the member that hangs would each have waited for the deadline of 5 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
