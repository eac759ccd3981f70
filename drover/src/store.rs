//! Opening the store that `--store` names.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use drover_store::{Backend, Embedded, Etcd, embedded, etcd};

use crate::cli::Server;

/// Opens the store; the embedded one lives in `DIR/store`.
pub(crate) async fn open(options: &Server) -> Result<Arc<dyn Backend>> {
    if options.store == "embedded" {
        let dir = options.data_dir.join("store");
        // Opening reads the whole file and may repair it: not on a thread that others wait for.
        let opened = tokio::task::spawn_blocking(move || Embedded::open(&dir, embedded::Options::default())).await?;
        return Ok(opened.context("cannot open the embedded store")?);
    }
    let (tls, endpoints) = match options.store.split_once("://") {
        Some(("etcd", endpoints)) => (None, endpoints),
        Some(("etcds", endpoints)) => (Some(tls(options)?), endpoints),
        _ => {
            bail!("--store must be `embedded`, `etcd://host:port,…` or `etcds://host:port,…`, not {:?}", options.store)
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoints: Vec<String> = endpoints.split(',').map(|endpoint| format!("{scheme}://{endpoint}")).collect();
    let user = options.etcd_user.clone().map(|user| (user, options.etcd_password.clone().unwrap_or_default()));
    let options = etcd::Options { tls, user, ..etcd::Options::default() };
    let opened = Etcd::connect(&endpoints, options).await;
    Ok(opened.with_context(|| format!("cannot reach etcd at {}", endpoints.join(", ")))?)
}

fn tls(options: &Server) -> Result<etcd::Tls> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let ca = options.etcd_ca.as_deref().context("etcds:// needs --etcd-ca")?;
    let identity = match (&options.etcd_cert, &options.etcd_key) {
        (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
        _ => None,
    };
    Ok(etcd::Tls { ca: read(ca)?, identity, domain: None })
}
