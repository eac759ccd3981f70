//! A Deployment on a pool of hosts, and how it stands.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};

use super::Pool;
use crate::eventually;

/// Where every host leads to it.
const NODE_PORT: u16 = 30_080;

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
      terminationGracePeriodSeconds: GRACE
      containers:
      - name: hello
        image: drover/hello:1
        imagePullPolicy: IfNotPresent
        env: [{name: VERSION, value: '1'}, {name: ON_SIGTERM, value: exit}]
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
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Web {
    /// The hosts.
    pub pool: Pool,
    /// A client of the administrator.
    pub client: Client,
    /// How many pods there shall be.
    pub replicas: usize,
}

impl Web {
    /// Starts the hosts and the Deployment, and waits until all is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(hosts: usize) -> Result<Self> {
        Self::start_patient(hosts, 1).await
    }

    /// The same with so many seconds for a pod to end.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_patient(hosts: usize, grace_secs: u32) -> Result<Self> {
        let pool = Pool::of_hosts(hosts, &["drover/hello:1", "drover/busybox:1"]).await?;
        let (client, replicas) = (pool.client().await?, 2 * hosts);
        let manifest = MANIFEST.replace("REPLICAS", &replicas.to_string()).replace("GRACE", &grace_secs.to_string());
        pool.kubectl(&["apply", "-f", "-"], &manifest).await?.success()?;
        let web = Self { pool, client, replicas };
        web.settled().await?;
        Ok(web)
    }

    /// Where host `number` leads to it.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn url(&self, number: usize) -> String {
        format!("http://{}:{NODE_PORT}/", self.pool.agents[number].engine.address())
    }

    /// Sets the version and waits until all pods have it.
    ///
    /// # Errors
    /// When they do not get it.
    pub async fn rolled_to(&self, version: u32) -> Result<()> {
        self.roll(version).await?;
        self.rolled_out().await
    }

    /// Begins to roll to a version.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn roll(&self, version: u32) -> Result<()> {
        let value = format!("VERSION={version}");
        self.pool.kubectl(&["set", "env", "deployment/web", &value], "").await?.success().map(drop)
    }

    /// Waits until all pods are of the newest version.
    ///
    /// # Errors
    /// When they do not get there.
    pub async fn rolled_out(&self) -> Result<()> {
        let wait = ["rollout", "status", "deployment/web", "--timeout=120s"];
        self.pool.kubectl(&wait, "").await?.success().map(drop)
    }

    /// The host with the most ready pods, by its number.
    ///
    /// # Errors
    /// When the API server does not answer, or there is no host.
    pub async fn fullest(&self) -> Result<usize> {
        let ready = self.ready().await?;
        let count = |name: &str| ready.get(name).copied().unwrap_or_default();
        let agents = self.pool.agents.iter().enumerate();
        Ok(agents.max_by_key(|(_, agent)| count(&agent.name)).context("there are hosts")?.0)
    }

    /// Takes link, agent and engine from a host at once.
    ///
    /// # Errors
    /// When it has lost them already.
    pub async fn kill(&mut self, number: usize) -> Result<()> {
        let agent = &mut self.pool.agents[number];
        agent.engine.host().context("a host of its own")?.connect(false).await?;
        agent.kill().await?;
        agent.engine.kill().await
    }

    /// Gives them back and waits until all is well.
    ///
    /// # Errors
    /// As [`Self::settled`].
    pub async fn revive(&mut self, number: usize) -> Result<()> {
        let agent = &mut self.pool.agents[number];
        agent.engine.host().context("a host of its own")?.connect(true).await?;
        agent.engine.restart().await?;
        agent.start(&[])?;
        self.settled().await
    }

    /// The Deployment's pods.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        self.list("app=web").await
    }

    async fn list(&self, labels: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        Ok(pods.list(&ListParams::default().labels(labels)).await?.items)
    }

    /// Their uids.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn uids(&self) -> Result<BTreeSet<String>> {
        Ok(self.pods().await?.into_iter().filter_map(|pod| pod.metadata.uid).collect())
    }

    /// Ready pods by node, those about to go aside.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn ready(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for pod in self.pods().await?.iter().filter(|pod| is_ready(pod)) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            *counts.entry(node).or_insert(0) += 1;
        }
        Ok(counts)
    }

    /// Why the Ready condition of each node that is not ready is as it is.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn not_ready(&self) -> Result<BTreeMap<String, String>> {
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
    ///
    /// # Errors
    /// When that does not come to be.
    pub async fn settled(&self) -> Result<()> {
        eventually("a cluster at rest", async || {
            let (nodes, pods) = (self.not_ready().await?, self.pods().await?);
            if !nodes.is_empty() || pods.len() != self.replicas || !pods.iter().all(is_ready) {
                let pods: Vec<_> = pods.iter().map(|pod| (&pod.metadata.name, is_ready(pod))).collect();
                return Ok(Err(format!("{nodes:?}, {pods:?}")));
            }
            let pods = self.list("").await?;
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
