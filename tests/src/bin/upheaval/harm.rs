//! What happens.

use anyhow::{Context, Result};
use drover_tests::Web;
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

const ROLE: &str = "node-role.kubernetes.io/ingress";

/// A Service with an address, which comes and goes; one without; and who is led to the first of all.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: heads}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
";
const OTHER: &str = "
apiVersion: v1
kind: Service
metadata: {name: other}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 8000, targetPort: http}]
";
const ROUTE: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: route}
spec:
  rules:
  - host: x.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: other, port: {number: 8000}}}}]}
";

/// One thing that happens. Users' doings come first: they need a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Harm {
    /// A new version.
    Roll(u32),
    /// So many pods.
    Scale(usize),
    /// A pod that has to go elsewhere.
    Move,
    /// A Service is deleted and made again.
    Service,
    /// A route of an Ingress goes for a while.
    Route,
    /// A host serves no Ingresses for a while.
    Role(usize),
    /// A host's link is down.
    Cut(usize),
    /// What a host sends is lost.
    Mute(usize),
    /// What a host is sent is lost.
    Deaf(usize),
    /// An engine is killed.
    Engine(usize),
    /// An agent is killed.
    Agent(usize),
    /// The control plane is killed.
    Server,
}

/// Makes what is looked at.
pub(crate) async fn prepare(web: &Web) -> Result<()> {
    for manifest in [SERVICES, OTHER, ROUTE] {
        web.pool.kubectl(&["apply", "-f", "-"], manifest).await?.success()?;
    }
    web.pool.kubectl(&["label", "node", "--all", &format!("{ROLE}=")], "").await?.success().map(drop)
}

/// One to three things that happen at once, each of another kind, in the order in which they begin.
pub(crate) fn choose(chance: &mut StdRng, hosts: usize, max: usize) -> Vec<Harm> {
    let mut host = || chance.random_range(0..hosts);
    let all = [
        Harm::Role(host()),
        Harm::Cut(host()),
        Harm::Mute(host()),
        Harm::Deaf(host()),
        Harm::Engine(host()),
        Harm::Agent(host()),
        Harm::Roll(chance.random()),
        Harm::Scale(chance.random_range(1..=3 * hosts)),
        Harm::Move,
        Harm::Service,
        Harm::Route,
        Harm::Server,
    ];
    let count = chance.random_range(1..=3).min(max);
    let mut round: Vec<Harm> = all.choose_multiple(chance, count).copied().collect();
    round.sort_unstable();
    round
}

impl Harm {
    /// Begins it, without waiting for what comes of it.
    pub(crate) async fn begin(self, web: &mut Web) -> Result<()> {
        match self {
            Self::Roll(version) => web.roll(version).await,
            Self::Scale(replicas) => {
                web.replicas = replicas;
                let count = format!("--replicas={replicas}");
                kubectl(web, &["scale", "deployment/web", &count], "").await
            }
            Self::Move => {
                let pods = web.pods().await?;
                let pod = pods.iter().find_map(|pod| pod.metadata.name.clone()).context("there is a pod")?;
                kubectl(web, &["delete", "pod", &pod, "--wait=false"], "").await
            }
            Self::Service => {
                kubectl(web, &["delete", "service", "other"], "").await?;
                kubectl(web, &["apply", "-f", "-"], OTHER).await
            }
            Self::Route => kubectl(web, &["delete", "ingress", "route"], "").await,
            Self::Role(host) => {
                let name = web.pool.agents[host].name.clone();
                kubectl(web, &["label", "node", &name, &format!("{ROLE}-")], "").await
            }
            Self::Cut(host) => link(web, host)?.connect(false).await,
            Self::Mute(host) => link(web, host)?.lose(100, 0).await,
            Self::Deaf(host) => link(web, host)?.lose(0, 100).await,
            Self::Engine(host) => web.pool.agents[host].engine.kill().await,
            Self::Agent(host) => web.pool.agents[host].kill().await,
            Self::Server => web.pool.kill_server().await,
        }
    }

    /// Ends it. What began last is healed first: users need a server again.
    pub(crate) async fn heal(self, web: &mut Web) -> Result<()> {
        match self {
            Self::Roll(_) | Self::Scale(_) | Self::Move | Self::Service => Ok(()),
            Self::Route => kubectl(web, &["apply", "-f", "-"], ROUTE).await,
            Self::Role(host) => {
                let name = web.pool.agents[host].name.clone();
                kubectl(web, &["label", "node", &name, &format!("{ROLE}=")], "").await
            }
            Self::Cut(host) => link(web, host)?.connect(true).await,
            Self::Mute(host) | Self::Deaf(host) => link(web, host)?.lose(0, 0).await,
            Self::Engine(host) => web.pool.agents[host].engine.restart().await,
            Self::Agent(host) => web.pool.agents[host].start(&[]),
            Self::Server => {
                web.pool.start_server().await?;
                web.client = web.pool.client().await?;
                Ok(())
            }
        }
    }
}

fn link(web: &Web, host: usize) -> Result<&drover_tests::Host> {
    web.pool.agents[host].engine.host().context("a host of its own")
}

async fn kubectl(web: &Web, arguments: &[&str], input: &str) -> Result<()> {
    web.pool.kubectl(arguments, input).await?.success().map(drop)
}
