//! Asking a workload over HTTP, as its users do.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends one request on a new connection and returns the status and the body.
///
/// # Errors
/// When no whole answer came.
pub async fn request(method: Method, url: &str, body: &str) -> Result<(StatusCode, String)> {
    let rest = url.strip_prefix("http://").context("only http:// is asked here")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let stream = TcpStream::connect(authority).await.with_context(|| format!("connect to {authority}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/{path}"))
        .header("host", authority)
        .header("connection", "close")
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.await??;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Returns the body of a `GET` that must succeed.
///
/// # Errors
/// When it does not.
pub async fn get(url: &str) -> Result<String> {
    let (status, body) = request(Method::GET, url, "").await?;
    anyhow::ensure!(status.is_success(), "{url} answered {status}: {body}");
    Ok(body)
}
