//! The engine as a direct API client uses it: bollard over kept-alive connections to the unix socket.
//!
//! bollard's own unix transport makes a connection for each call; the peer shall not pay for that, so it gets one with
//! hyper's pool. Only containers with a label of this run are ever listed or removed.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
};
use futures::{StreamExt, stream};
use http::Uri;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::UnixStream, time::sleep};

use crate::options::Options;

/// Label of every container that the direct client makes; its value names the run.
pub(crate) const LABEL: &str = "dev.drover.bench";
/// Label that the agent gives to the containers of a cluster (docs/nomenclature.md).
const CLUSTER_LABEL: &str = "dev.drover.cluster";
/// Longest wait for one call: an engine that removes many containers at once is slow but not gone.
const CALL_DEADLINE_SECS: u64 = 120;
/// Rounds of the final removal: calls that an interrupt cut off may still make a container.
const CLEANUP_ROUNDS: u32 = 50;

/// One engine, and the names of this run on it.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The client.
    pub(crate) docker: Docker,
    /// Names this run: the value of [`LABEL`], and the name of the cluster of `drover up`.
    pub(crate) run: String,
}

impl Engine {
    /// Connects and agrees on an API version.
    ///
    /// # Errors
    /// When the engine does not answer or lacks the image.
    pub(crate) async fn connect(options: &Options) -> Result<Self> {
        let docker = keep_alive(options.socket.clone())?.negotiate_version().await?;
        docker.inspect_image(&options.image).await.with_context(|| format!("image {}", options.image))?;
        Ok(Self { docker, run: format!("bench-{:08x}", rand::random::<u32>()) })
    }

    /// Returns the ids of this run's containers of the direct client that are in `status`, or all with `None`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) async fn direct(&self, status: Option<&str>) -> Result<Vec<String>> {
        self.labelled(LABEL, status).await
    }

    /// Returns the ids of the containers of this run's cluster that are in `status`, or all with `None`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) async fn of_cluster(&self, status: Option<&str>) -> Result<Vec<String>> {
        self.labelled(CLUSTER_LABEL, status).await
    }

    /// Removes whatever this run has left, by either label.
    ///
    /// # Errors
    /// When something stays.
    pub(crate) async fn remove_all_of_this_run(&self) -> Result<()> {
        let mut empty_rounds = 0;
        for _ in 0..CLEANUP_ROUNDS {
            let mut left = self.direct(None).await?;
            left.extend(self.of_cluster(None).await?);
            empty_rounds = if left.is_empty() { empty_rounds + 1 } else { 0 };
            if empty_rounds == 2 {
                return Ok(());
            }
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            let removals = left.iter().map(|id| self.docker.remove_container(id, Some(force.clone())));
            // A failed removal is seen in the next round's list.
            stream::iter(removals).buffer_unordered(8).for_each(|_| async {}).await;
            sleep(Duration::from_millis(200)).await;
        }
        let left = self.direct(None).await?.len() + self.of_cluster(None).await?.len();
        ensure!(left == 0, "{left} containers of {} are left", self.run);
        Ok(())
    }

    async fn labelled(&self, label: &str, status: Option<&str>) -> Result<Vec<String>> {
        let mut filters = HashMap::from([("label", vec![format!("{label}={}", self.run)])]);
        if let Some(status) = status {
            filters.insert("status", vec![status.to_owned()]);
        }
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await?;
        Ok(found.into_iter().filter_map(|container| container.id).collect())
    }
}

/// bollard with hyper's connection pool over the unix socket at `path`.
fn keep_alive(path: PathBuf) -> Result<Docker> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        // hyper's client wants futures that can be moved.
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    });
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let send = move |request: BollardRequest| {
        let client = client.clone();
        async move { Ok(client.request(request).await?) }
    };
    // The authority is only the pool's key: the connector goes to the socket whatever it is.
    Ok(Docker::connect_with_custom_transport(send, Some("http://engine"), CALL_DEADLINE_SECS, API_DEFAULT_VERSION)?)
}
