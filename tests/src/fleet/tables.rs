//! What the hosts of a pool have in their kernels, their HAProxy and their name servers, beside what the objects say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result};
use drover_agent::proxy::{self, ProxyConfig, ProxyInput, observe};
use drover_api::ingress::NODE_ROLE;
use drover_routing::ingress::{Input, change::Observed, desired};
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{Agent, NETWORK, Pool};
use crate::world::list;

/// All objects that tables are made from.
struct Objects {
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
    ingresses: Vec<Arc<Ingress>>,
    classes: Vec<Arc<IngressClass>>,
}

impl Objects {
    async fn read(client: &Client) -> Result<Self> {
        Ok(Self {
            nodes: shared(client).await?,
            pods: shared(client).await?,
            services: shared(client).await?,
            slices: shared(client).await?,
            ingresses: shared(client).await?,
            classes: shared(client).await?,
        })
    }
}

async fn shared<K>(client: &Client) -> Result<Vec<Arc<K>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    Ok(list(client).await?.into_iter().map(Arc::new).collect())
}

impl Pool {
    /// Returns a sentence for every table of a host that is not what the objects say, and for everything that belongs to
    /// no object. Objects and tables are read one after the other: what changes meanwhile may differ for once.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn differences(&self, client: &Client) -> Result<Vec<String>> {
        let objects = Objects::read(client).await?;
        let mut found = Vec::new();
        for agent in &self.agents {
            let mut compare = |what: &str, is: &dyn Debug, shall: &dyn Debug| {
                let (is, shall) = (format!("{is:?}"), format!("{shall:?}"));
                if is != shall {
                    found.push(format!("{}: {what}: {is} for {shall}", agent.name));
                }
            };
            let (is, shall) = agent.translations(&objects).await?;
            compare("nftables", &is, &shall);
            let (is, shall) = agent.routes(&objects).await?;
            compare("routes", &is, &shall);
            let (is, shall) = agent.balancing(&objects).await?;
            compare("HAProxy", &is, &shall);
            let (is, shall) = agent.names(&objects).await?;
            compare("DNS", &is, &shall);
            let (is, shall) = agent.sandboxes(&objects).await?;
            compare("name spaces and links", &is, &shall);
            let containers = agent.engine.containers().await?.into_iter().map(|container| container.pod_uid);
            compare("containers", &containers.collect::<BTreeSet<_>>(), &agent.own_pods(&objects));
            let networks =
                agent.engine.docker(&["network", "ls", "--quiet", "--filter", "type=custom"]).await?.success()?;
            compare("networks of the engine", &networks.lines().count(), &0);
        }
        Ok(found)
    }
}

impl Agent {
    /// Runs a program on the host.
    async fn inside(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.engine.host().context("a host of its own")?.run(program, arguments, "").await
    }

    async fn translations(&self, objects: &Objects) -> Result<(proxy::Observed, proxy::Observed)> {
        let [_, cluster_cidr, _, service_cidr] = NETWORK;
        let config = ProxyConfig {
            table: self.bridge(),
            node: self.name.clone(),
            pod_cidr: self.pod_cidr(objects)?.parse()?,
            cluster_cidr: cluster_cidr.parse()?,
            service_cidr: service_cidr.parse()?,
        };
        let input =
            ProxyInput { services: objects.services.clone(), slices: objects.slices.clone(), ..ProxyInput::default() };
        let listing = self.inside("nft", &["-j", "list", "table", "ip", &self.bridge()]).await?;
        Ok((observe(&listing)?, proxy::desired(&input, &config).observed()))
    }

    fn pod_cidr<'a>(&self, objects: &'a Objects) -> Result<&'a str> {
        let own = objects.nodes.iter().find(|node| node.name_any() == self.name);
        own.and_then(|node| node.spec.as_ref()?.pod_cidr.as_deref())
            .with_context(|| format!("{} has no network", self.name))
    }

    /// Networks of other nodes' pods, with where they are.
    async fn routes(&self, objects: &Objects) -> Result<(BTreeSet<(String, String)>, BTreeSet<(String, String)>)> {
        let listing = self.inside("ip", &["-j", "route", "show", "proto", "215"]).await?;
        let listing: Vec<Value> = serde_json::from_str(listing.trim()).or_else(|error| {
            // Of no route some versions of ip have nothing to say.
            if listing.trim().is_empty() { Ok(Vec::new()) } else { Err(error) }
        })?;
        let text = |route: &Value, key: &str| route[key].as_str().unwrap_or_default().to_owned();
        let is = listing.iter().map(|route| (text(route, "dst"), text(route, "gateway"))).collect();
        let others = objects.nodes.iter().filter(|node| node.name_any() != self.name);
        let shall = others.filter_map(|node| {
            let addresses = node.status.as_ref()?.addresses.as_ref()?;
            let address = addresses.iter().find(|address| address.type_ == "InternalIP")?;
            Some((node.spec.as_ref()?.pod_cidr.clone()?, address.address.clone()))
        });
        Ok((is, shall.collect()))
    }

    /// Servers by backend, of every worker that serves.
    async fn balancing(&self, objects: &Objects) -> Result<(Vec<Servers>, Vec<Servers>)> {
        let own = objects.nodes.iter().find(|node| node.name_any() == self.name);
        if !own.is_some_and(|own| own.labels().contains_key(NODE_ROLE)) {
            return Ok((Vec::new(), Vec::new()));
        }
        let input = Input {
            ingresses: objects.ingresses.clone(),
            classes: objects.classes.clone(),
            services: objects.services.clone(),
            slices: objects.slices.clone(),
            ..Input::default()
        };
        let shall: Servers = desired(&input)
            .backends
            .into_iter()
            .map(|(name, served)| (name, served.servers.iter().map(ToString::to_string).collect()))
            .filter(|(_, servers): &(_, BTreeSet<String>)| !servers.is_empty())
            .collect();
        let answer = self.ask_haproxy("show proc").await?;
        let newest = answer.lines().find(|line| line.split_whitespace().nth(1) == Some("worker"));
        let newest = newest.and_then(|line| line.split_whitespace().next()).context("HAProxy has no worker")?;
        let observed = Observed::read(&self.ask_haproxy(&format!("@!{newest} show servers state")).await?);
        let serving = observed.serving.into_iter();
        let is = serving.map(|(name, servers)| (name, servers.iter().map(ToString::to_string).collect()));
        Ok((vec![is.collect()], vec![shall]))
    }

    async fn ask_haproxy(&self, line: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.run_dir().join("ingress/master.sock")).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// What the node's name server says of every Service.
    async fn names(&self, objects: &Objects) -> Result<(Names, Names)> {
        // The first address of the node's network is the name server.
        let network: std::net::Ipv4Addr = self.pod_cidr(objects)?.split('/').next().unwrap_or_default().parse()?;
        let server = std::net::Ipv4Addr::from_bits(network.to_bits() + 1).to_string();
        let (mut is, mut shall) = (Names::new(), Names::new());
        for service in &objects.services {
            let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
            let host = format!("{name}.{namespace}.svc.cluster.local");
            let answer = self.inside("busybox", &["nslookup", "-type=a", &host, &server]).await.unwrap_or_default();
            let after = answer.split_once("Name:").map_or("", |(_, after)| after);
            let addresses = after.lines().filter_map(|line| line.trim().strip_prefix("Address:"));
            is.insert(host.clone(), addresses.map(|address| address.trim().to_owned()).collect());
            shall.insert(host, addresses_of(service, &objects.slices));
        }
        Ok((is, shall))
    }

    /// Pods that have a name space here, and how many links lead into such; both as the pods that are bound here have it.
    async fn sandboxes(&self, objects: &Objects) -> Result<((BTreeSet<String>, usize), (BTreeSet<String>, usize))> {
        let shall = self.own_pods(objects);
        let mut is = BTreeSet::new();
        for entry in std::fs::read_dir(self.run_dir().join("netns"))? {
            is.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let links = self.inside("ip", &["-j", "link", "show", "type", "veth"]).await?;
        let links: Vec<Value> = serde_json::from_str(links.trim()).unwrap_or_default();
        // One of them is the host's own.
        let count = shall.len();
        Ok(((is, links.len().saturating_sub(1)), (shall, count)))
    }

    fn own_pods(&self, objects: &Objects) -> BTreeSet<String> {
        let here = |pod: &&Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&self.name);
        objects.pods.iter().filter(here).filter_map(|pod| pod.metadata.uid.clone()).collect()
    }

    fn run_dir(&self) -> PathBuf {
        PathBuf::from("/run/drover").join(self.bridge())
    }
}

/// Addresses of servers by the name of their backend.
type Servers = BTreeMap<String, BTreeSet<String>>;
/// Addresses by name.
type Names = BTreeMap<String, BTreeSet<String>>;

/// The address of a Service; without one those of its ready endpoints.
fn addresses_of(service: &Service, slices: &[Arc<EndpointSlice>]) -> BTreeSet<String> {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()).unwrap_or_default();
    if address != "None" {
        return BTreeSet::from([address]);
    }
    let own = slices.iter().filter(|slice| {
        slice.namespace() == service.namespace()
            && slice.labels().get("kubernetes.io/service-name") == Some(&service.name_any())
    });
    let ready = own
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    ready.flat_map(|endpoint| endpoint.addresses.clone()).collect()
}
