//! The engine's network that pods of this node share in bridge mode.

use std::collections::HashMap;

use bollard::{
    Docker,
    errors::Error,
    models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect},
    query_parameters::InspectNetworkOptions,
};

use crate::{config::Owner, network::Cidr};

/// The label that tells our networks from others.
const CLUSTER: &str = "dev.drover.cluster";
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Why the engine's network is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum EngineNetworkError {
    /// The engine refused.
    #[error("cannot {step} network {network}")]
    Engine {
        /// What was tried.
        step: &'static str,
        /// The network.
        network: String,
        /// The engine's answer.
        #[source]
        source: Error,
    },
    /// A network of that name is there that is not ours.
    #[error("network {network} of the engine is not Drover's")]
    Foreign {
        /// The network.
        network: String,
    },
    /// Our network has another range, and containers in it.
    #[error("network {network} of the engine has another range and containers in it")]
    Occupied {
        /// The network.
        network: String,
    },
}

/// The network as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineNetwork {
    pub(super) bridge: String,
    pub(super) pods: Cidr,
    pub(super) mtu: u32,
    pub(super) owner: Owner,
}

/// What is to be done about the network that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Create,
    Keep,
    Replace,
    Foreign,
    Occupied,
}

/// The network's name, made from the bridge's.
pub(super) fn network_name(bridge: &str) -> String {
    format!("drover-{bridge}")
}

impl EngineNetwork {
    /// Makes the network, or keeps the one that is there already.
    pub(super) async fn ensure(&self, docker: &Docker) -> Result<(), EngineNetworkError> {
        let network = network_name(&self.bridge);
        let present = inspect(docker, &network).await?;
        match self.judge(present.as_ref()) {
            Verdict::Keep => return Ok(()),
            Verdict::Foreign => return Err(EngineNetworkError::Foreign { network }),
            Verdict::Occupied => return Err(EngineNetworkError::Occupied { network }),
            Verdict::Replace => delete(docker, &network).await?,
            Verdict::Create => {}
        }
        let created = docker.create_network(self.request()).await;
        created.map(drop).map_err(|source| EngineNetworkError::Engine { step: "create", network, source })
    }

    fn judge(&self, present: Option<&NetworkInspect>) -> Verdict {
        let Some(present) = present else { return Verdict::Create };
        let Some(cluster) = present.labels.as_ref().and_then(|labels| labels.get(CLUSTER)) else {
            return Verdict::Foreign;
        };
        let ranges = present.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
        let subnets: Vec<_> = ranges.filter_map(|range| range.subnet.clone()).collect();
        let bridge = present.options.as_ref().and_then(|options| options.get(BRIDGE_NAME));
        if *cluster == self.owner.cluster && subnets == [self.pods.to_string()] && bridge == Some(&self.bridge) {
            return Verdict::Keep;
        }
        let empty = present.containers.as_ref().is_none_or(HashMap::is_empty);
        if empty { Verdict::Replace } else { Verdict::Occupied }
    }

    /// Masquerading is the service proxy's, which knows the cluster's range. Traffic among pods is let through.
    fn request(&self) -> NetworkCreateRequest {
        let range = IpamConfig {
            subnet: Some(self.pods.to_string()),
            gateway: Some(self.pods.gateway().to_string()),
            ..Default::default()
        };
        let options = [
            (BRIDGE_NAME, self.bridge.clone()),
            ("com.docker.network.bridge.enable_icc", "true".to_owned()),
            ("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned()),
            ("com.docker.network.driver.mtu", self.mtu.to_string()),
        ];
        let labels = [(CLUSTER, self.owner.cluster.clone()), ("dev.drover.node", self.owner.node.clone())];
        let owned = |(key, value): (&str, String)| (key.to_owned(), value);
        NetworkCreateRequest {
            name: network_name(&self.bridge),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![range]), ..Default::default() }),
            enable_ipv6: Some(false),
            options: Some(options.into_iter().map(owned).collect()),
            labels: Some(labels.into_iter().map(owned).collect()),
            ..Default::default()
        }
    }
}

/// Whether the engine has the network of a bridge, whoever made it.
pub(super) async fn exists(docker: &Docker, bridge: &str) -> Result<bool, EngineNetworkError> {
    Ok(inspect(docker, &network_name(bridge)).await?.is_some())
}

/// Removes the network of a bridge; `false` when there is none of ours. The engine refuses while containers are in it.
pub(super) async fn remove(docker: &Docker, bridge: &str) -> Result<bool, EngineNetworkError> {
    let network = network_name(bridge);
    let present = inspect(docker, &network).await?;
    let ours = present.and_then(|network| network.labels).is_some_and(|labels| labels.contains_key(CLUSTER));
    if ours {
        delete(docker, &network).await?;
    }
    Ok(ours)
}

async fn inspect(docker: &Docker, network: &str) -> Result<Option<NetworkInspect>, EngineNetworkError> {
    match docker.inspect_network(network, None::<InspectNetworkOptions>).await {
        Ok(present) => Ok(Some(present)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(source) => Err(EngineNetworkError::Engine { step: "inspect", network: network.to_owned(), source }),
    }
}

async fn delete(docker: &Docker, network: &str) -> Result<(), EngineNetworkError> {
    let failed = |source| EngineNetworkError::Engine { step: "remove", network: network.to_owned(), source };
    docker.remove_network(network).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use bollard::models::EndpointResource;

    use super::*;

    fn wanted() -> EngineNetwork {
        EngineNetwork {
            bridge: "drover0".into(),
            pods: "10.128.4.0/22".parse().unwrap(),
            mtu: 1400,
            owner: Owner { cluster: "c".into(), node: "n".into() },
        }
    }

    /// The network as the engine shows it after our own request.
    fn made(from: &EngineNetwork) -> NetworkInspect {
        let NetworkCreateRequest { name, ipam, options, labels, .. } = from.request();
        NetworkInspect { name: Some(name), ipam, options, labels, ..Default::default() }
    }

    fn occupied(mut network: NetworkInspect) -> NetworkInspect {
        network.containers = Some([("id".to_owned(), EndpointResource::default())].into());
        network
    }

    #[test]
    fn what_is_there_is_kept_replaced_or_left_alone() {
        let other_range = || EngineNetwork { pods: "10.128.8.0/22".parse().unwrap(), ..wanted() };
        let other_cluster = || EngineNetwork { owner: Owner { cluster: "d".into(), node: "n".into() }, ..wanted() };
        let foreign = NetworkInspect { labels: None, ..made(&wanted()) };
        let table = [
            ("nothing", None, Verdict::Create),
            ("ours", Some(made(&wanted())), Verdict::Keep),
            ("ours with pods", Some(occupied(made(&wanted()))), Verdict::Keep),
            ("another MTU", Some(occupied(made(&EngineNetwork { mtu: 9000, ..wanted() }))), Verdict::Keep),
            ("another range", Some(made(&other_range())), Verdict::Replace),
            ("another range with pods", Some(occupied(made(&other_range()))), Verdict::Occupied),
            ("of an earlier cluster", Some(made(&other_cluster())), Verdict::Replace),
            ("of another cluster with pods", Some(occupied(made(&other_cluster()))), Verdict::Occupied),
            ("somebody else's", Some(foreign.clone()), Verdict::Foreign),
            ("somebody else's with containers", Some(occupied(foreign)), Verdict::Foreign),
        ];
        for (what, present, verdict) in table {
            assert_eq!(wanted().judge(present.as_ref()), verdict, "{what}");
        }
    }
}
