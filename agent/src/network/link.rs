//! The rtnetlink requests that the pod network needs, each idempotent.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use futures::TryStreamExt;
use nix::libc::{EEXIST, ENODEV};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection,
    packet_route::{
        AddressFamily,
        link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
        route::RouteScope,
    },
};
use tokio::task::AbortHandle;

/// The name of a pod's link inside its name space.
const POD_LINK: &str = "eth0";

/// The hardware address of the host's end of every pod link.
const HOST_END: [u8; 6] = [0x0a, 0xd0, 0, 0, 0, 1];

/// The loopback link has this index in every name space.
const LOOPBACK_INDEX: u32 = 1;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct LinkError {
    step: String,
    #[source]
    source: Error,
}

impl LinkError {
    pub(super) fn new(step: &str, source: Error) -> Self {
        Self { step: step.to_owned(), source }
    }
}

/// A netlink socket in one name space: the one of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    pub(super) handle: Handle,
    connection: AbortHandle,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What of a link matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mtu: Option<u32>,
    pub(super) alias: Option<String>,
    pub(super) hardware: Option<Vec<u8>>,
}

/// A pod's two ends.
#[derive(Debug)]
pub(super) struct Veth<'a> {
    pub(super) host_name: &'a str,
    pub(super) mtu: u32,
    pub(super) address: Ipv4Addr,
    pub(super) namespace: BorrowedFd<'a>,
}

impl Netlink {
    /// Opens a socket in the calling thread's name space; must run inside a tokio runtime.
    pub(super) fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        Ok(Self { handle, connection: tokio::spawn(connection).abort_handle() })
    }

    /// The link of that name.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        Ok(self.find_message(name).await?.map(|message| describe(&message)))
    }

    /// All that the kernel says of the link of that name.
    pub(super) async fn find_message(&self, name: &str) -> Result<Option<LinkMessage>, LinkError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found {
            Ok(message) => Ok(message),
            Err(error) if is(&error, ENODEV) => Ok(None),
            Err(source) => Err(LinkError { step: format!("look up link {name}"), source }),
        }
    }

    /// Name and description of each link that has an alias.
    pub(super) async fn aliased(&self) -> Result<Vec<(String, Link)>, LinkError> {
        let failed = |source| LinkError { step: "list the links".to_owned(), source };
        let mut messages = self.handle.link().get().execute();
        let mut links = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            let name = message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _other => None,
            });
            let link = describe(&message);
            links.extend(name.filter(|_| link.alias.is_some()).map(|name| (name, link)));
        }
        Ok(links)
    }

    /// Removes a link, if it is there.
    pub(super) async fn remove(&self, index: u32) -> Result<(), LinkError> {
        let outcome = self.handle.link().del(index).execute().await;
        unless(outcome, ENODEV, || format!("remove link {index}"))
    }

    /// Makes a bridge, unless there is one, and brings it up. It has no ports: it is there to hold the gateway
    /// address (the kernels in question lack `dummy`).
    pub(super) async fn ensure_bridge(&self, name: &str, mtu: u32, hardware: [u8; 6]) -> Result<u32, LinkError> {
        let fresh = LinkBridge::new(name).mtu(mtu).address(hardware.to_vec()).up().build();
        unless(self.handle.link().add(fresh).execute().await, EEXIST, || format!("create bridge {name}"))?;
        let missing = || LinkError { step: format!("find bridge {name}"), source: Error::RequestFailed };
        let link = self.find(name).await?.ok_or_else(missing)?;
        let mut wanted = LinkUnspec::new_with_index(link.index).up();
        if link.mtu != Some(mtu) {
            wanted = wanted.mtu(mtu);
        }
        if link.hardware.as_deref() != Some(&hardware) {
            wanted = wanted.address(hardware.to_vec());
        }
        let outcome = self.handle.link().set(wanted.build()).execute().await;
        outcome.map_err(|source| LinkError { step: format!("bring up bridge {name}"), source })?;
        Ok(link.index)
    }

    /// Gives a link an address.
    pub(super) async fn ensure_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
        let outcome = self.handle.address().add(index, IpAddr::V4(address), prefix).execute().await;
        unless(outcome, EEXIST, || format!("set address {address}/{prefix}"))
    }

    /// Sends traffic for a network out of a link without a next hop.
    pub(super) async fn ensure_link_route(&self, index: u32, to: super::Cidr) -> Result<(), LinkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix())
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        unless(self.handle.route().add(route).execute().await, EEXIST, || format!("add the route to {to}"))
    }

    /// Makes a pod's link pair: one end here, the other in the pod's name space, both down. `false` when a link of that name is there already.
    pub(super) async fn create_veth(&self, veth: &Veth<'_>) -> Result<bool, LinkError> {
        let peer = LinkUnspec::new_with_name(POD_LINK)
            .setns_by_fd(veth.namespace.as_raw_fd())
            .mtu(veth.mtu)
            .address(hardware_address(veth.address).to_vec())
            .build();
        let pair = LinkVeth::new(veth.host_name, POD_LINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(HOST_END.to_vec())
            .mtu(veth.mtu)
            .build();
        match self.handle.link().add(pair).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is(&error, EEXIST) => Ok(false),
            Err(source) => Err(LinkError { step: format!("create link {}", veth.host_name), source }),
        }
    }

    /// Brings up the host's end of a pod's link, names the link's owner and leads to the pod through it, from the
    /// gateway's address.
    pub(super) async fn route_to_pod(&self, veth: &Veth<'_>, gateway: Ipv4Addr, alias: &str) -> Result<(), LinkError> {
        let name = veth.host_name;
        let missing = || LinkError { step: format!("find link {name}"), source: Error::RequestFailed };
        let index = self.find(name).await?.ok_or_else(missing)?.index;
        let named = self.handle.link().set(LinkUnspec::new_with_index(index).alias(alias).up().build()).execute().await;
        named.map_err(|source| LinkError { step: format!("bring up link {name}"), source })?;
        self.ensure_neighbour(index, veth.address, hardware_address(veth.address)).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(veth.address, 32)
            .pref_source(gateway)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        // Replaced: a link that is about to vanish with an earlier name space may still have the route.
        let outcome = self.handle.route().add(route).replace().execute().await;
        outcome.map_err(|source| LinkError { step: format!("add the route to {}", veth.address), source })
    }

    /// Enters a neighbour for ever: who is at the other end of a link is known, nobody needs to ask (or may lie).
    async fn ensure_neighbour(&self, index: u32, address: Ipv4Addr, hardware: [u8; 6]) -> Result<(), LinkError> {
        let neighbour =
            self.handle.neighbours().add(index, IpAddr::V4(address)).link_layer_address(&hardware).replace();
        let outcome = neighbour.execute().await;
        outcome.map_err(|source| LinkError { step: format!("enter neighbour {address}"), source })
    }

    /// Whether this name space has a pod's link.
    pub(super) async fn has_pod_link(&self) -> Result<bool, LinkError> {
        Ok(self.find(POD_LINK).await?.is_some())
    }

    /// Sets up the inside of a pod's name space. `false` when it has no link to set up.
    pub(super) async fn configure_pod(&self, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<bool, LinkError> {
        let loopback = self.handle.link().set(LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build());
        loopback.execute().await.map_err(|source| LinkError { step: "bring up lo".to_owned(), source })?;
        let Some(link) = self.find(POD_LINK).await? else { return Ok(false) };
        let up = self.handle.link().set(LinkUnspec::new_with_index(link.index).up().build()).execute().await;
        up.map_err(|source| LinkError { step: format!("bring up {POD_LINK}"), source })?;
        self.ensure_address(link.index, address, 32).await?;
        self.ensure_neighbour(link.index, gateway, HOST_END).await?;
        let route =
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(link.index).onlink().build();
        unless(self.handle.route().add(route).execute().await, EEXIST, || "add the default route".to_owned())?;
        Ok(true)
    }

    /// The MTU of the link that the default route leaves by.
    pub(super) async fn uplink_mtu(&self) -> Result<Option<u32>, LinkError> {
        let failed = |source| LinkError { step: "read the routes".to_owned(), source };
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(query).execute();
        let mut best: Option<(u32, u32)> = None;
        while let Some(route) = routes.try_next().await.map_err(failed)? {
            if let Some(candidate) = default_route(&route) {
                best = Some(best.map_or(candidate, |known| known.min(candidate)));
            }
        }
        match best {
            Some((_, index)) => self.mtu(index).await,
            None => Ok(None),
        }
    }

    /// The MTU of a link.
    pub(super) async fn mtu(&self, index: u32) -> Result<Option<u32>, LinkError> {
        let link = self.handle.link().get().match_index(index).execute().try_next().await;
        let failed = |source| LinkError { step: format!("read link {index}"), source };
        Ok(link.map_err(failed)?.and_then(|message| describe(&message).mtu))
    }
}

/// Metric and link of a default route of the main table.
fn default_route(route: &rtnetlink::packet_route::route::RouteMessage) -> Option<(u32, u32)> {
    use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader};
    let header = &route.header;
    let main = header.address_family == AddressFamily::Inet && header.table == RouteHeader::RT_TABLE_MAIN;
    if header.destination_prefix_length != 0 || !main {
        return None;
    }
    let (mut metric, mut link) = (0, None);
    for attribute in &route.attributes {
        if let RouteAttribute::Priority(value) = attribute {
            metric = *value;
        }
        if let RouteAttribute::Oif(index) = attribute {
            link = Some(*index);
        }
    }
    link.map(|index| (metric, index))
}

/// A locally administered hardware address made from the IP address: a new pod under a reused address then needs no
/// neighbour entry to expire anywhere.
pub(super) fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0xd0, a, b, c, d]
}

fn describe(message: &LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, mtu: None, alias: None, hardware: None };
    for attribute in &message.attributes {
        if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = Some(*mtu);
        }
        if let LinkAttribute::IfAlias(alias) = attribute {
            link.alias = Some(alias.clone());
        }
        if let LinkAttribute::Address(bytes) = attribute {
            link.hardware = Some(bytes.clone());
        }
    }
    link
}

fn is(error: &Error, errno: i32) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -errno)
}

pub(super) fn unless(
    outcome: Result<(), Error>,
    expected: i32,
    step: impl FnOnce() -> String,
) -> Result<(), LinkError> {
    match outcome {
        Err(source) if !is(&source, expected) => Err(LinkError { step: step(), source }),
        Ok(()) | Err(_) => Ok(()),
    }
}
