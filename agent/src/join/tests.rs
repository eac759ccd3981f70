use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{identity::Identity, member::renewal_after, state::State, *};
use crate::chance::Chance;

#[test]
fn a_server_is_an_https_url_without_more() {
    for (text, shown) in [
        ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
        ("https://api.example.com", "https://api.example.com:6443"),
        ("https://[fd00::1]:7443/", "https://[fd00::1]:7443"),
    ] {
        assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
    }
    for text in ["", "http://a:1", "a:6443", "https://", "https://a/b", "https://a?b=c", "https://a_b !"] {
        assert_eq!(
            text.parse::<Server>().unwrap_err().to_string(),
            format!("server {text:?} is not https://host[:port]")
        );
    }
}

#[test]
fn a_pin_is_a_hash_with_its_name() {
    let text = format!("sha256:{}", "0aF1".repeat(16));
    let Trust::Pin(pin) = text.parse().unwrap() else { panic!("not a pin") };
    assert_eq!(pin[..2], [0x0a, 0xf1]);
    for wrong in
        ["", "sha256:", "0af1", &format!("sha256:{}", "0af1".repeat(15)), &format!("sha256:{}", "+1".repeat(32))]
    {
        wrong.parse::<Trust>().expect_err(wrong);
    }
}

#[test]
fn a_certificate_is_renewed_with_a_third_of_its_life_left() {
    assert_eq!(renewal_after(Duration::from_secs(24 * 3600)), Duration::from_secs(16 * 3600));
}

/// An authority, and what it signs.
struct Authority {
    pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    fn pin(&self) -> Trust {
        Trust::Pin(Sha256::digest(&self.der).into())
    }

    /// Serves handshakes on loopback as `name`, with the authority in the chain, and says nothing.
    async fn serve(&self, name: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain = vec![leaf.der().clone(), self.der.clone().into()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    stream.shutdown().await.ok();
                }
            }
        });
        server
    }
}

async fn shake_hands(trust: &Trust, servers: &[Server]) -> Result<Server, String> {
    let dialer = Dialer::new(servers, trust.client_config(None, b"h2").map_err(|error| error.to_string())?);
    dialer.connect().await.map(|(_, server)| server).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_pinned_authority_is_believed_and_no_other() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.serve("127.0.0.1").await;
    shake_hands(&ours.pin(), std::slice::from_ref(&server)).await.unwrap();
    shake_hands(&Trust::Authorities(ours.pem.clone()), std::slice::from_ref(&server)).await.unwrap();
    let refused = shake_hands(&theirs.pin(), std::slice::from_ref(&server)).await.unwrap_err();
    assert!(refused.contains("not of the cluster that --ca-pin names"), "{refused}");
    shake_hands(&Trust::Authorities(theirs.pem.clone()), &[server]).await.unwrap_err();
    // Whoever has another's authority in its chain has not its signature.
    let mut forged = Authority::new();
    forged.der.clone_from(&ours.der);
    let forger = forged.serve("127.0.0.1").await;
    shake_hands(&ours.pin(), &[forger]).await.unwrap_err();
    // Nor does a good signature for another name help.
    let elsewhere = ours.serve("192.0.2.1").await;
    shake_hands(&ours.pin(), &[elsewhere]).await.unwrap_err();
    let none = Trust::Authorities(String::new()).client_config(None, b"h2").unwrap_err();
    assert_eq!(none.to_string(), "the authority's certificate cannot be used: there is none");
}

#[tokio::test]
async fn the_first_server_that_answers_is_used_and_asked_first_the_next_time() {
    let authority = Authority::new();
    let closed: Server = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("https://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let (second, third) = (authority.serve("127.0.0.1").await, authority.serve("127.0.0.1").await);
    let servers = [closed.clone(), second.clone(), third];
    let dialer = Dialer::new(&servers, authority.pin().client_config(None, b"h2").unwrap());
    for _ in 0..2 {
        assert_eq!(dialer.connect().await.unwrap().1, second);
    }
    let error = shake_hands(&authority.pin(), std::slice::from_ref(&closed)).await.unwrap_err();
    assert!(error.starts_with(&format!("{closed}: ")), "{error}");
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let authority = Authority::new();
    let identity = Identity::new(&identity::new_key().unwrap()).unwrap();
    let stranger = KeyPair::generate().unwrap();
    let theirs = CertificateParams::default().signed_by(&stranger, &authority.issuer).unwrap().pem();
    identity.adopt(&theirs).unwrap_err();
    identity.adopt("nonsense").unwrap_err();
    assert!(identity.request("n1").unwrap().starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
}

#[test]
fn a_key_is_made_once_and_only_its_owner_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let key = state.key().unwrap().unwrap();
    assert_eq!(State::open(dir.path()).unwrap().key().unwrap().unwrap(), key);
    let path = dir.path().join("pki/node.key");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dir.path().join("pki").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(state.key().unwrap_err().to_string().ends_with("which lets others than its owner in; set it to 0600"));
}

#[tokio::test]
async fn what_was_kept_is_taken_up_without_a_server_and_only_under_its_own_names() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    assert!(state.membership().unwrap().is_none());
    let authority = Authority::new();
    let key = KeyPair::from_pem(&state.key().unwrap().unwrap()).unwrap();
    let certificate = CertificateParams::default().signed_by(&key, &authority.issuer).unwrap().pem();
    let membership = Membership {
        node_name: "n1".into(),
        cluster_name: "media".into(),
        cluster_cidr: "10.128.0.0/9".into(),
        service_cidr: "10.96.0.0/16".into(),
        certificate_authority: authority.pem.clone(),
    };
    state.keep(&membership, &certificate).unwrap();
    let options = JoinOptions {
        servers: vec!["https://192.0.2.1".parse().unwrap()],
        token: None,
        trust: None,
        node_name: "n1".into(),
        cluster_name: None,
        data_dir: dir.path().to_owned(),
    };
    let shutdown = CancellationToken::new();
    let member = join(options.clone(), &Chance::System, &shutdown).await.unwrap().unwrap();
    assert_eq!(member.membership, membership);
    let other_name = JoinOptions { node_name: "n2".into(), ..options.clone() };
    let other_cluster = JoinOptions { cluster_name: Some("print".into()), ..options.clone() };
    for wrong in [other_name, other_cluster] {
        let error = join(wrong, &Chance::System, &shutdown).await.unwrap_err().to_string();
        assert!(error.contains("belongs to node \"n1\" of cluster \"media\""), "{error}");
    }
    std::fs::write(dir.path().join("membership.json"), "{").unwrap();
    let error = join(options.clone(), &Chance::System, &shutdown).await.unwrap_err().to_string();
    assert!(error.ends_with("is damaged: remove it, and join with a token"), "{error}");
    std::fs::remove_file(dir.path().join("membership.json")).unwrap();
    assert!(matches!(join(options, &Chance::System, &shutdown).await, Err(JoinError::NoTrust)));
}
