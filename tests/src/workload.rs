//! Shorthand for what most tests ask of a cluster.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{Cluster, eventually, get};

impl Cluster {
    /// Waits until a Deployment has rolled out, as `kubectl rollout status` sees it.
    ///
    /// # Errors
    /// When it does not.
    pub async fn rolled_out(&self, deployment: &str) -> Result<()> {
        let target = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "status", &target, "--timeout=120s"]).await?.success()?;
        Ok(())
    }

    /// Returns `http://` with the address of a Service and its first port.
    ///
    /// # Errors
    /// When the Service has none.
    pub async fn service_url(&self, name: &str) -> Result<String> {
        let service = Api::<Service>::default_namespaced(self.client().await?).get(name).await?;
        let spec = service.spec.context("a Service has a spec")?;
        let address = spec.cluster_ip.context("the Service has an address")?;
        let port = spec.ports.unwrap_or_default().first().map(|port| port.port).context("the Service has a port")?;
        Ok(format!("http://{address}:{port}/"))
    }

    /// Waits until a Service answers something that contains `text`.
    ///
    /// # Errors
    /// When it never does.
    pub async fn answers(&self, service: &str, text: &str) -> Result<String> {
        let url = self.service_url(service).await?;
        eventually(&format!("{service} answering {text:?}"), async || {
            Ok(match get(&url).await {
                Ok(body) if body.contains(text) => Ok(body),
                Ok(body) => Err(body),
                Err(error) => Err(format!("{error:#}")),
            })
        })
        .await
    }

    /// Returns the pods with a label, by name.
    ///
    /// # Errors
    /// When the list fails.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        let pods = Api::<Pod>::default_namespaced(self.client().await?);
        let mut found = pods.list(&ListParams::default().labels(selector)).await?.items;
        found.sort_by_key(ResourceExt::name_any);
        Ok(found)
    }

    /// Waits until no pod has the label any more.
    ///
    /// # Errors
    /// When they stay.
    pub async fn no_pods(&self, selector: &str) -> Result<()> {
        eventually(&format!("no pods with {selector}"), async || {
            let names: Vec<String> = self.pods(selector).await?.iter().map(ResourceExt::name_any).collect();
            Ok(if names.is_empty() { Ok(()) } else { Err(names) })
        })
        .await
    }
}
