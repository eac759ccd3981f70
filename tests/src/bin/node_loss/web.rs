//! The cluster and what runs on it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use drover_tests::{Pool, eventually};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};

pub(crate) const NODE_PORT: u16 = 30_080;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: drover/hello:1
        imagePullPolicy: IfNotPresent
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
";

/// A Deployment with two pods for each host, behind a node port.
pub(crate) struct Web {
    pub(crate) pool: Pool,
    pub(crate) client: Client,
    pub(crate) replicas: usize,
}

impl Web {
    pub(crate) async fn start(hosts: usize) -> Result<Self> {
        let pool = Pool::of_hosts(hosts, &["drover/hello:1"]).await?;
        let (client, replicas) = (pool.client().await?, 2 * hosts);
        let manifest = MANIFEST.replace("REPLICAS", &replicas.to_string());
        pool.kubectl(&["apply", "-f", "-"], &manifest).await?.success()?;
        let web = Self { pool, client, replicas };
        web.settled().await?;
        Ok(web)
    }

    pub(crate) async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        Ok(pods.list(&ListParams::default().labels("app=web")).await?.items)
    }

    /// The uids of all pods.
    pub(crate) async fn uids(&self) -> Result<BTreeSet<String>> {
        Ok(self.pods().await?.into_iter().filter_map(|pod| pod.metadata.uid).collect())
    }

    /// Ready pods by node, those about to go aside.
    pub(crate) async fn ready(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for pod in self.pods().await?.iter().filter(|pod| is_ready(pod)) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            *counts.entry(node).or_insert(0) += 1;
        }
        Ok(counts)
    }

    /// Why the Ready condition of each node that is not ready is as it is.
    pub(crate) async fn not_ready(&self) -> Result<BTreeMap<String, String>> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?;
        let reason = |node: Node| {
            let conditions = node.status?.conditions?;
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
            let reason = (ready.status != "True").then(|| ready.reason.unwrap_or_default())?;
            Some((node.metadata.name?, reason))
        };
        Ok(nodes.items.into_iter().filter_map(reason).collect())
    }

    /// Waits until all nodes are ready, there are as many pods as asked for, all ready, and each engine has the
    /// containers of its own node's pods and no other.
    pub(crate) async fn settled(&self) -> Result<()> {
        eventually("a cluster at rest", async || {
            let (nodes, pods) = (self.not_ready().await?, self.pods().await?);
            if !nodes.is_empty() || pods.len() != self.replicas || !pods.iter().all(is_ready) {
                let pods: Vec<_> = pods.iter().map(|pod| (&pod.metadata.name, is_ready(pod))).collect();
                return Ok(Err(format!("{nodes:?}, {pods:?}")));
            }
            for agent in &self.pool.agents {
                let here = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&agent.name);
                let wanted: BTreeSet<_> = pods.iter().filter(here).filter_map(|pod| pod.metadata.uid.clone()).collect();
                let found: BTreeSet<_> = agent.engine.containers().await?.into_iter().map(|one| one.pod_uid).collect();
                if wanted != found {
                    return Ok(Err(format!("{}: {found:?} for {wanted:?}", agent.name)));
                }
            }
            Ok(Ok(()))
        })
        .await
        .context("all nodes ready, all pods ready, no container too many")
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
