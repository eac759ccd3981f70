//! A15: certificates that must not open the door.

use anyhow::{Result, ensure};
use drover_tests::attack::{Authority, Identity, Server, Wish, connect};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MASTERS: &[&str] = &["system:masters"];

/// Whether a client with this certificate gets any answer at all.
async fn is_heard(server: &Server, identity: &Identity) -> bool {
    let stream = connect(&server.address, &server.authority.certificate_pem, Some(identity), "http/1.1").await;
    let Ok(mut stream) = stream else { return false };
    let request = format!("GET /livez HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.address);
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    // With TLS 1.3 the client learns of the refusal at its first read.
    matches!(stream.read(&mut [0; 64]).await, Ok(1..))
}

#[tokio::test]
async fn only_a_fresh_client_certificate_of_our_own_authority_is_heard() -> Result<()> {
    let server = Server::start().await?;
    let good = Wish::client("drover-admin", MASTERS);
    ensure!(is_heard(&server, &server.authority.sign(&good)?).await, "a good certificate opens the door");
    let server_usage = Wish { usage: ExtendedKeyUsagePurpose::ServerAuth, ..good.clone() };
    let bad = [
        ("an authority of the same name", Authority::unknown()?.sign(&good)?),
        ("one that signs itself", Authority::self_signed(&good)?),
        ("one that has ended", server.authority.sign(&Wish { life: (-7200, -60), ..good.clone() })?),
        ("one that has not begun", server.authority.sign(&Wish { life: (3600, 7200), ..good.clone() })?),
        ("a server's certificate", server.authority.sign(&server_usage)?),
        ("a name with a NUL", server.authority.sign(&Wish::client("drover-admin\0.evil", MASTERS))?),
        ("a name with a line break", server.authority.sign(&Wish::client("a\nb", MASTERS))?),
        ("no name", server.authority.sign(&Wish::client("", MASTERS))?),
    ];
    for (what, identity) in bad {
        ensure!(!is_heard(&server, &identity).await, "{what} opened the door");
    }
    // A leaf cannot sign: its certificate is no authority's.
    let leaf = server.authority.sign(&good)?;
    let forged = Authority::from_leaf(&leaf)?.sign(&good)?;
    ensure!(!is_heard(&server, &forged).await, "a leaf signed for another");
    Ok(())
}

#[tokio::test]
async fn the_servers_certificate_says_the_same_whatever_name_it_is_called_by() -> Result<()> {
    let server = Server::start().await?;
    let told = async |name: &str| -> Result<Vec<u8>> {
        let stream = drover_tests::attack::connect_as(&server.address, name).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(certificates.iter().flat_map(|certificate| certificate.to_vec()).collect())
    };
    let usual = told("localhost").await?;
    for name in ["evil.example", "kubernetes.default", "x.x.x.x.x.example"] {
        ensure!(told(name).await? == usual, "called {name} the server shows another certificate");
    }
    ensure!(told("localhost").await? == usual, "and being called so left nothing in it");
    Ok(())
}
