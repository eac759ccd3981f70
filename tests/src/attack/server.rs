//! The server under attack: `drover apiserver` as a process, with an embedded store and no controllers.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Authority, Identity, Wish, connect, wire};
use crate::{binary, eventually};

/// An answer, read whole.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Its code.
    pub code: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as a document; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A running server. Dropping it ends the process and removes its folder.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    child: Child,
    /// `host:port`.
    pub address: String,
    /// The authority that signs for it.
    pub authority: Authority,
    identities: Mutex<HashMap<String, Identity>>,
    tokens: Mutex<HashMap<String, String>>,
}

impl Server {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub async fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("drover-attacks-").tempdir()?;
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let output = File::create(&log)?;
        let mut command = Command::new(binary("drover")?);
        command.args(["apiserver", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        // Everything that is ever logged is looked through for secrets.
        command.env("RUST_LOG", "debug").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.kill_on_drop(true).spawn()?;
        let ready = data.join("server.json");
        let told = eventually("the server serving", async || {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}:\n{}", fs::read_to_string(&log)?);
            }
            Ok(fs::read(&ready).map_err(|error| error.to_string()))
        })
        .await?;
        let told: Value = serde_json::from_slice(&told)?;
        let url = told["url"].as_str().context("server.json has a url")?;
        let address = url.trim_start_matches("https://").to_owned();
        let authority = Authority::of_server(&data)?;
        Ok(Self { dir, child, address, authority, identities: Mutex::default(), tokens: Mutex::default() })
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns everything that the server has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.dir.path().join("log"))?).into_owned())
    }

    /// Returns the server's process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Returns the memory that the server occupies, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(Path::new("/proc").join(self.pid()?.to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Returns a client certificate of one's own for a name and groups.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn identity(&self, name: &str, groups: &[&str]) -> Result<Identity> {
        let key = format!("{name} {groups:?}");
        let mut identities = self.identities.lock().expect("no test panics while it holds this");
        if let Some(known) = identities.get(&key) {
            return Ok(known.clone());
        }
        let made = self.authority.sign(&Wish::client(name, groups))?;
        identities.insert(key, made.clone());
        Ok(made)
    }

    /// Returns the certificate and the token that a role comes with, see [`super::Case::role`].
    ///
    /// # Errors
    /// For a role that is none, or an account without a token.
    pub async fn credentials(&self, role: &str) -> Result<(Option<Identity>, Option<String>)> {
        let (kind, rest) = role.split_once(':').unwrap_or((role, ""));
        Ok(match kind {
            "anonymous" => (None, None),
            "admin" => (Some(self.identity("drover-admin", &["system:masters"])?), None),
            "node" => (Some(self.node(rest).await?), None),
            "user" => {
                let mut words = rest.split(',');
                let name = words.next().unwrap_or_default();
                (Some(self.identity(name, &words.collect::<Vec<_>>())?), None)
            }
            "account" => (None, Some(self.token(rest).await?)),
            other => bail!("there is no role {other:?}"),
        })
    }

    /// A node that has joined: its certificate, and its key among the cluster's.
    async fn node(&self, name: &str) -> Result<Identity> {
        let known = self.identities.lock().expect("no test panics while it holds this").contains_key(&joined(name));
        let identity = self.identity(&format!("system:node:{name}"), &["system:nodes"])?;
        if !known {
            let key = json!({
                "apiVersion": "drover.dev/v1alpha1", "kind": "NodeKey", "metadata": {"name": name},
                "spec": {"publicKeyHash": identity.key_hash()?},
            });
            let answer = Box::pin(self.send("admin", "POST", "/apis/drover.dev/v1alpha1/nodekeys", Some(&key))).await?;
            ensure!([201, 409].contains(&answer.code), "{}", answer.text());
            let mut identities = self.identities.lock().expect("no test panics while it holds this");
            identities.insert(joined(name), identity.clone());
        }
        Ok(identity)
    }

    async fn token(&self, account: &str) -> Result<String> {
        let known = self.tokens.lock().expect("no test panics while it holds this").get(account).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (namespace, name) = account.split_once('/').context("account:NAMESPACE/NAME")?;
        let order = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.send("admin", "POST", &path, Some(&order)).await?;
        let token = answer.json()["status"]["token"].as_str().with_context(|| answer.text())?.to_owned();
        self.tokens.lock().expect("no test panics while it holds this").insert(account.to_owned(), token.clone());
        Ok(token)
    }

    /// Opens a connection as a role.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect(&self, role: &str, alpn: &str) -> Result<wire::Stream> {
        let (identity, _) = self.credentials(role).await?;
        connect(&self.address, &self.authority.certificate_pem, identity.as_ref(), alpn).await
    }

    /// Sends an ordinary request.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(&self, role: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut answers = self.exchange(role, method, path, &[], body.as_bytes()).await?;
        answers.pop().with_context(|| format!("{method} {path}: no answer"))
    }

    /// Sends one request on a connection of its own and returns all that comes back.
    ///
    /// # Errors
    /// When the connection cannot be made or what comes back is not HTTP.
    pub async fn exchange(
        &self,
        role: &str,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Vec<Answer>> {
        let (identity, token) = Box::pin(self.credentials(role)).await?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        let has = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !body.is_empty() && !has("content-type") {
            head += "content-type: application/json\r\n";
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        if let Some(token) = token.filter(|_| !has("authorization")) {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let stream = connect(&self.address, &self.authority.certificate_pem, identity.as_ref(), "http/1.1").await?;
        wire::exchange(stream, &[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes as they are and returns all that comes back.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn raw(&self, role: &str, message: &[u8]) -> Result<Vec<Answer>> {
        wire::exchange(self.connect(role, "http/1.1").await?, message).await
    }

    /// Makes an object as the administrator, unless it is there.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(&self, object: &Value) -> Result<()> {
        let path = collection(object)?;
        let answer = self.send("admin", "POST", &path, Some(object)).await?;
        ensure!(matches!(answer.code, 201 | 409), "setup {path}: {}", answer.text());
        Ok(())
    }

    /// Ends the server with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = self.pid()?.to_string();
        crate::run("kill".as_ref(), &["-TERM", &pid], "", &[]).await?.success()?;
        self.child.wait().await?;
        Ok(())
    }
}

/// Returns the path at which an object is made.
fn collection(object: &Value) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    let found = drover_api::kinds::by_gvk(version, kind).with_context(|| format!("{version} {kind} is not served"))?;
    let root = if found.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
    let namespace = text("/metadata/namespace");
    Ok(match found.namespaced {
        true => {
            format!("{root}/namespaces/{}/{}", if namespace.is_empty() { "default" } else { namespace }, found.plural)
        }
        false => format!("{root}/{}", found.plural),
    })
}

fn joined(node: &str) -> String {
    format!("{node} has joined")
}
