//! Wiring of a fleet of hollow nodes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use drover_agent::hollow::{Capacity, FleetConfig, run_fleet};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_util::sync::CancellationToken;

use crate::cli;

/// Runs the fleet until `shutdown`.
pub(crate) async fn run(options: cli::Hollow, shutdown: CancellationToken) -> Result<()> {
    let config = FleetConfig {
        server: server(&options).await?,
        nodes: options.nodes,
        name_prefix: options.name_prefix,
        labels: options.labels.into_iter().collect::<BTreeMap<_, _>>(),
        capacity: Capacity::default(),
        start_latency: options.pod_start_latency,
        images: options.images,
        impersonate: !options.no_impersonation,
    };
    Ok(run_fleet(config, shutdown).await?)
}

/// The server and the credentials: of the kubeconfig, with what the flags say instead.
async fn server(options: &cli::Hollow) -> Result<kube::Config> {
    let url = options.server.as_deref().map(|url| url.parse().context("--server is not a URL")).transpose()?;
    let mut config = match (&options.kubeconfig, url) {
        (Some(path), url) => {
            let kubeconfig =
                Kubeconfig::read_from(path).with_context(|| format!("cannot read --kubeconfig {}", path.display()))?;
            let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            config.cluster_url = url.unwrap_or(config.cluster_url);
            config
        }
        (None, Some(url)) => kube::Config::new(url),
        (None, None) => bail!("--server or --kubeconfig is needed"),
    };
    if let Some(path) = &options.certificate_authority {
        let pem =
            std::fs::read(path).with_context(|| format!("cannot read --certificate-authority {}", path.display()))?;
        config.root_cert = Some(certificates(&pem).with_context(|| format!("{} holds no PEM", path.display()))?);
    }
    if let Some(token) = &options.token {
        config.auth_info.token = Some(token.clone().into());
    }
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    Ok(found?.into_iter().map(|certificate| certificate.to_vec()).collect())
}
