//! From a change of a Service's endpoints to the first connection on the new set, with few Services about and with many:
//! `make endpoint-change SERVICES=10000`.
//!
//! `drover up` runs on this machine. One Service leads to one of two listeners, and a patch of its EndpointSlice to the
//! other; a client connects again and again from before the patch is sent until the other answers. Around it stand
//! Services with ten endpoints each. Printed are percentiles in milliseconds for both numbers and their ratio; a
//! connection that fails ends it with 1.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use drover_tests::{Cluster, Store, eventually, percentiles, unless_told_to_end};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Services that are made at the same time.
const MAKERS: usize = 32;
const ENDPOINTS: usize = 10;
/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
struct Options {
    /// How many other Services there are at first
    #[arg(long, default_value_t = 10)]
    few: usize,
    /// How many there are later
    #[arg(long, default_value_t = 10_000)]
    services: usize,
    /// How often the endpoints change with each number
    #[arg(long, default_value_t = 300)]
    changes: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    unless_told_to_end(measure(&Options::parse())).await
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn measure(options: &Options) -> Result<()> {
    let cluster = Cluster::start(Store::Embedded).await?;
    let client = cluster.client().await?;
    let service = Changing::start(&client).await?;
    let mut made = 0;
    let mut medians = Vec::new();
    println!("  services      p50    p99    max ms");
    for count in [options.few, options.services] {
        make(&client, made..count).await?;
        made = made.max(count);
        service.leads_to(0).await?;
        let times = service.change(options.changes).await?;
        // The columns are for seconds.
        println!("  {made:8}  {}", percentiles(times.iter().map(|time| *time * 1000).collect()));
        medians.push(times);
    }
    let mean = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64() / times.len().max(1) as f64;
    println!("  mean with many by mean with few: {:.2}", mean(&medians[1]) / mean(&medians[0]).max(f64::EPSILON));
    Ok(())
}

/// A Service that leads now to one listener, now to another.
struct Changing {
    address: SocketAddrV4,
    slices: Api<EndpointSlice>,
    ports: [u16; 2],
}

impl Changing {
    async fn start(client: &kube::Client) -> Result<Self> {
        // Any address of this machine would do that a Service may lead to.
        let host = gateway(client).await?;
        let one = eventually("the bridge is there", async || Ok(listen(host, 0).await)).await?;
        let two = listen(host, 1).await?;
        let services: Api<Service> = Api::default_namespaced(client.clone());
        let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
        let service = services.create(&PostParams::default(), &serde_json::from_value(service("changing"))?).await?;
        slices.create(&PostParams::default(), &serde_json::from_value(slice("changing", &[host], one))?).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has an address")?;
        Ok(Self { address: SocketAddrV4::new(address.parse()?, 80), slices, ports: [one, two] })
    }

    async fn leads_to(&self, listener: u8) -> Result<()> {
        eventually("the Service leads to a listener", async || {
            Ok(match self.answer().await {
                Ok(answer) if answer == listener => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .await
    }

    /// Changes the endpoints so many times; returns how long each took to reach a client.
    async fn change(&self, times: usize) -> Result<Vec<Duration>> {
        let mut spans = Vec::with_capacity(times);
        for number in 0..times {
            let listener = (number + 1) % 2;
            let patch = json!({"ports": [{"name": "http", "port": self.ports[listener]}]});
            let started = Instant::now();
            let patched = async {
                self.slices.patch("changing", &PatchParams::default(), &Patch::Merge(&patch)).await?;
                Ok(())
            };
            let arrived = async {
                while usize::from(self.answer().await?) != listener {
                    ensure!(started.elapsed() < PATIENCE, "the change does not arrive");
                }
                Ok(started.elapsed())
            };
            let ((), span) = tokio::try_join!(patched, arrived)?;
            spans.push(span);
        }
        Ok(spans)
    }

    async fn answer(&self) -> Result<u8> {
        let ask = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.read_u8().await
        };
        tokio::time::timeout(PATIENCE, ask).await.context("nobody answers")?.context("a connection failed")
    }
}

/// Says its number to everybody who connects.
async fn listen(host: Ipv4Addr, number: u8) -> Result<u16> {
    let listener = TcpListener::bind((host, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who has gone away does not want it.
            let _ = stream.write_u8(number).await;
        }
    });
    Ok(port)
}

/// The address of the bridge of this node's pods.
async fn gateway(client: &kube::Client) -> Result<Ipv4Addr> {
    let nodes: Api<Node> = Api::all(client.clone());
    eventually("the node has a pod CIDR", async || {
        let node = nodes.list(&ListParams::default()).await?.items.pop();
        let cidr = node.and_then(|node| node.spec?.pod_cidr);
        let network = cidr.and_then(|cidr| cidr.split('/').next()?.parse::<Ipv4Addr>().ok());
        Ok(network.map(|network| (u32::from(network) + 1).into()).ok_or("none"))
    })
    .await
}

/// Makes Services that stand about.
async fn make(client: &kube::Client, numbers: std::ops::Range<usize>) -> Result<()> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
    let make_one = async |number: usize| {
        let name = format!("idle-{number}");
        let first = u32::from(Ipv4Addr::new(10, 70, 0, 0)) + u32::try_from(number * ENDPOINTS)?;
        let addresses: Vec<Ipv4Addr> = (first..).take(ENDPOINTS).map(Ipv4Addr::from).collect();
        services.create(&PostParams::default(), &serde_json::from_value(service(&name))?).await?;
        slices.create(&PostParams::default(), &serde_json::from_value(slice(&name, &addresses, 8080))?).await?;
        anyhow::Ok(())
    };
    futures::stream::iter(numbers).map(make_one).buffer_unordered(MAKERS).try_collect().await
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80}]}})
}

fn slice(service: &str, addresses: &[Ipv4Addr], port: u16) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({"metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"name": "http", "port": port}]})
}
