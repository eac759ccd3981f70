//! Asking for a certificate: `POST /drover/v1/join`.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{Dialer, JoinOptions, Membership, Server, identity::Identity};

const ANSWER: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No server answered; one may later.
    #[error("{0}")]
    Unreachable(String),
    /// A server said no; it will say so again.
    #[error("{0}")]
    Refused(String),
}

/// What a server gave.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) membership: Membership,
    pub(super) certificate: String,
    pub(super) life: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    certificate: String,
    certificate_authority: String,
    certificate_life_seconds: u64,
    cluster_name: String,
    cluster_cidr: String,
    service_cidr: String,
}

/// Asks the first server that answers.
pub(super) async fn ask(
    dialer: &Dialer,
    options: &JoinOptions,
    identity: &Identity,
    cluster: Option<&str>,
) -> Result<Admission, AskError> {
    let csr = identity.request(&options.node_name).map_err(|error| AskError::Refused(error.to_string()))?;
    let mut body = json!({"node": options.node_name, "csr": csr});
    if let Some(cluster) = cluster {
        body["clusterName"] = cluster.into();
    }
    let exchanged = timeout(ANSWER, exchange(dialer, options.token.as_deref(), body.to_string())).await;
    let exchanged = exchanged.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
    let (server, code, text) = exchanged.map_err(|error| AskError::Unreachable(error.to_string()))?;
    if code != 201 {
        let status: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let said = format!("{server} answered {code}: {}", status["message"].as_str().unwrap_or_default());
        // Too many requests and errors of the server pass; what is wrong with the request does not.
        return Err(if code == 429 || code >= 500 { AskError::Unreachable(said) } else { AskError::Refused(said) });
    }
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|error| AskError::Refused(format!("{server} gave no certificate: {error}")))?;
    Ok(Admission {
        membership: Membership {
            node_name: options.node_name.clone(),
            cluster_name: answer.cluster_name,
            cluster_cidr: answer.cluster_cidr,
            service_cidr: answer.service_cidr,
            certificate_authority: answer.certificate_authority,
        },
        certificate: answer.certificate,
        life: Duration::from_secs(answer.certificate_life_seconds),
    })
}

async fn exchange(dialer: &Dialer, token: Option<&str>, body: String) -> io::Result<(Server, u16, Bytes)> {
    let (stream, server) = dialer.connect().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let mut request = Request::post("/drover/v1/join")
        .header(header::HOST, server.authority())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let code = response.status().as_u16();
    let text = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?;
    connection.abort();
    Ok((server, code, text.to_bytes()))
}
