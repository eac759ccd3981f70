//! Three hosts with an engine each are one machine: pods on different hosts talk by address, name and Service, and every
//! host leads to a Service.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use drover_tests::{Pool, engine_tests_enabled, eventually, get};

const HOSTS: usize = 3;
const NODE_PORT: u16 = 30_080;

/// One of each on every host.
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity: &apart
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: web}}, topologyKey: kubernetes.io/hostname}
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
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  replicas: 3
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: client}}
      containers:
      - name: busybox
        image: drover/busybox:1
        imagePullPolicy: IfNotPresent
        command: [/busybox, sleep, '3600']
";

#[tokio::test]
async fn pods_on_three_hosts_talk_by_address_name_and_service_and_every_host_leads_to_it() -> Result<()> {
    if !engine_tests_enabled("pods_on_three_hosts_talk") {
        return Ok(());
    }
    let started = Instant::now();
    let pool = Pool::of_hosts(HOSTS, &["drover/hello:1", "drover/busybox:1"]).await?;
    pool.kubectl(&["apply", "-f", "-"], MANIFEST).await?.success()?;
    for deployment in ["deployment/web", "deployment/client"] {
        pool.kubectl(&["rollout", "status", deployment, "--timeout=120s"], "").await?.success()?;
    }
    // From outside, through every host; each host's table leads to the pods of all.
    for agent in &pool.agents {
        let url = format!("http://{}:{NODE_PORT}/", agent.engine.address());
        answers_of_all(&url, async || get(&url).await).await?;
    }
    println!(
        "three hosts from nothing to a Service that answers through each: {:.1} s",
        started.elapsed().as_secs_f64()
    );

    let clients = pods(&pool, "client").await?;
    let webs = pods(&pool, "web").await?;
    for (name, list) in [("web", &webs), ("client", &clients)] {
        let nodes: BTreeSet<&str> = list.iter().map(|pod| pod.node.as_str()).collect();
        ensure!(nodes.len() == HOSTS, "{name} lies on {nodes:?}");
    }
    for client in &clients {
        for web in &webs {
            let said = client.ask(&pool, &format!("http://{}:8080/", web.address)).await?;
            ensure!(said.contains(&web.name), "{} asked {} and got {said}", client.node, web.name);
        }
        let url = "http://web.default.svc.cluster.local/";
        answers_of_all(&format!("{url} from {}", client.node), async || client.ask(&pool, url).await).await?;
    }
    Ok(())
}

struct Pod {
    name: String,
    uid: String,
    node: String,
    address: Ipv4Addr,
}

impl Pod {
    /// Asks from within the pod.
    async fn ask(&self, pool: &Pool, url: &str) -> Result<String> {
        let agent =
            pool.agents.iter().find(|agent| agent.name == self.node).context("the pod's node is one of ours")?;
        agent.curl(&self.uid, self.address, url).await
    }
}

async fn pods(pool: &Pool, app: &str) -> Result<Vec<Pod>> {
    let jsonpath =
        "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.spec.nodeName} {.status.podIP}{\"\\n\"}{end}";
    let listed = pool.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", jsonpath], "").await?.success()?;
    let pod = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, uid, node, address] = words[..] else { bail!("{line:?}") };
        Ok(Pod { name: name.to_owned(), uid: uid.to_owned(), node: node.to_owned(), address: address.parse()? })
    };
    listed.lines().map(pod).collect()
}

/// Asks until each of the three has answered.
async fn answers_of_all(what: &str, ask: impl AsyncFn() -> Result<String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    eventually(&format!("answers of three pods to {what}"), async || {
        match ask().await {
            Ok(said) => drop(seen.insert(said)),
            Err(error) => return Ok(Err(format!("{error:#}"))),
        }
        Ok(if seen.len() == HOSTS { Ok(()) } else { Err(format!("{seen:?}")) })
    })
    .await
}
