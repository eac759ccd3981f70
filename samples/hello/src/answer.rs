//! What the sample answers to each request.

use std::{convert::Infallible, path::PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
};

/// Largest file that `/data/NAME` takes.
const DATA_BYTES_MAX: usize = 1 << 20;

/// What the answers are made of.
#[derive(Debug)]
pub(crate) struct Site {
    /// `VERSION`.
    pub(crate) version: String,
    /// The pod's host name.
    pub(crate) host_name: String,
    /// Where `/data/NAME` lives; `None` means that it does not.
    pub(crate) data_dir: Option<PathBuf>,
}

/// Answers one request: `/`, `/healthz`, and `GET` or `PUT /data/NAME`.
pub(crate) async fn answer(site: &Site, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match (request.method(), path.as_str()) {
        (&Method::GET, "/") => {
            text(StatusCode::OK, format!("hello from {}, version {}\n", site.host_name, site.version))
        }
        (&Method::GET, "/healthz") => text(StatusCode::OK, "ok\n".to_owned()),
        (method, path) => match (method, data_file(site, path)) {
            (&Method::GET, Some(file)) => match tokio::fs::read(&file).await {
                Ok(bytes) => Response::new(Full::from(bytes)),
                Err(_) => text(StatusCode::NOT_FOUND, "no such file\n".to_owned()),
            },
            (&Method::PUT, Some(file)) => store(file, request).await,
            _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        },
    })
}

/// Returns the file that a `/data/NAME` path stands for; names are plain, so nothing outside the folder is reachable.
fn data_file(site: &Site, path: &str) -> Option<PathBuf> {
    let name = path.strip_prefix("/data/")?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    site.data_dir.as_ref().filter(|_| plain).map(|dir| dir.join(name))
}

async fn store(file: PathBuf, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = match Limited::new(request.into_body(), DATA_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")),
    };
    match write_durably(file, body).await {
        Ok(()) => text(StatusCode::OK, "stored\n".to_owned()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn write_durably(file: PathBuf, body: Bytes) -> std::io::Result<()> {
    tokio::fs::write(&file, &body).await?;
    tokio::fs::File::open(&file).await?.sync_all().await
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
