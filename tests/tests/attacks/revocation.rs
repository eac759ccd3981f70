//! A25: a stream ends soon after the right to it, or the credential behind it, is gone. A83: one server a data directory.

use anyhow::{Context, Result, ensure};
use drover_tests::{attack::Server, binary, run};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Duration, Instant, timeout},
};

/// The promise is 5 s; a loaded machine may take longer to notice the time.
const BOUND: Duration = Duration::from_secs(30);

/// Watches as a role until the server ends the stream, after `revoke` ran.
async fn ends_after(server: &Server, role: &str, revoke: impl AsyncFnOnce() -> Result<()>) -> Result<Duration> {
    let (_, token) = server.credentials(role).await?;
    let mut stream = server.connect(role, "http/1.1").await?;
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /api/v1/namespaces/watched/configmaps?watch=1 HTTP/1.1\r\nhost: {}\r\n{authorization}connection: close\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 1 << 16];
    let count = stream.read(&mut buffer).await?;
    let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
    ensure!(head.starts_with("HTTP/1.1 200"), "the watch was refused: {head}");
    revoke().await?;
    let revoked = Instant::now();
    let rest = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    timeout(BOUND, rest).await.context("the watch went on")?;
    Ok(revoked.elapsed())
}

#[tokio::test]
async fn a_watch_ends_when_its_binding_or_its_token_does() -> Result<()> {
    let server = Server::start().await?;
    let group = "rbac.authorization.k8s.io";
    let binding = |name: &str, subject: serde_json::Value| {
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": "watched"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"}, "subjects": [subject]})
    };
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "watched"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "watched"}}),
        binding("eve", json!({"kind": "User", "apiGroup": group, "name": "eve"})),
        binding("bot", json!({"kind": "ServiceAccount", "name": "bot", "namespace": "watched"})),
    ] {
        server.create(&object).await?;
    }
    let delete = async |path: &str| {
        let answer = server.send("admin", "DELETE", path, None).await?;
        ensure!(answer.code == 200, "{path}: {}", answer.text());
        Ok(())
    };
    let bindings = format!("/apis/{group}/v1/namespaces/watched/rolebindings");
    let took = ends_after(&server, "user:eve", async || delete(&format!("{bindings}/eve")).await).await?;
    println!("binding gone: the watch ended after {took:?}");
    // The binding of the account stays: its token is gone with it.
    let account = "/api/v1/namespaces/watched/serviceaccounts/bot";
    let took = ends_after(&server, "account:watched/bot", async || delete(account).await).await?;
    println!("account gone: the watch ended after {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_server_is_refused_the_data_directory() -> Result<()> {
    let server = Server::start().await?;
    let dir = server.data_dir();
    let dir = dir.to_str().context("a path of text")?;
    let second = run(&binary("drover")?, &["apiserver", "--listen", "127.0.0.1:0", "--data-dir", dir], "", &[]).await?;
    let said = second.failure()?;
    ensure!(said.contains("is in use by another process"), "{said}");
    ensure!(server.send("admin", "GET", "/api/v1/namespaces", None).await?.code == 200, "the first still serves");
    Ok(())
}
