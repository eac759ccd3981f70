//! The sample application of the demo and the tests: an HTTP server in one static binary.
//!
//! Owns nothing but its answers. Configured by environment only, so that a manifest shows all there is:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PORT` | port to listen on, all addresses | `8080` |
//! | `VERSION` | what it calls itself | `1` |
//! | `DATA_DIR` | folder that `/data/NAME` reads and writes | none: 404 |
//! | `ON_SIGTERM` | `drain` answers what is in flight, `exit` exits at once | `drain` |

mod answer;

use std::{env, io, net::SocketAddr, path::PathBuf, sync::Arc};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::answer::Site;

/// What SIGTERM does to requests that are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnSigterm {
    Drain,
    Exit,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let on_sigterm = match env::var("ON_SIGTERM").as_deref() {
        Ok("exit") => OnSigterm::Exit,
        _ => OnSigterm::Drain,
    };
    let site = Arc::new(Site {
        version: env::var("VERSION").unwrap_or_else(|_| "1".to_owned()),
        host_name: host_name(),
        data_dir: env::var("DATA_DIR").ok().map(PathBuf::from),
    });
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
    serve(listener, site, on_sigterm).await
}

async fn serve(listener: TcpListener, site: Arc<Site>, on_sigterm: OnSigterm) -> io::Result<()> {
    // Process 1 of a container has no default action for SIGTERM: without a handler it would be ignored.
    let mut terminate = signal(SignalKind::terminate())?;
    let connections = GracefulShutdown::new();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new());
    loop {
        let stream = tokio::select! {
            // Both arms are cancel-safe: a dropped accept or signal wait loses nothing.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue, // The peer left before it was accepted.
            },
            _ = terminate.recv() => break,
        };
        let site = Arc::clone(&site);
        let service = service_fn(move |request| {
            let site = Arc::clone(&site);
            async move { answer::answer(&site, request).await }
        });
        let connection = connections.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("connection ended early: {error}");
            }
        });
    }
    drop(listener);
    if on_sigterm == OnSigterm::Drain {
        connections.shutdown().await;
    }
    Ok(())
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
