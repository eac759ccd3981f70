//! The rtnetlink requests: what there is, and each step.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt as _;
use nix::libc::{EEXIST, ENOENT, ESRCH};
use rtnetlink::{
    Error, LinkUnspec, LinkVxlan, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::AddressAttribute,
        link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope},
    },
};

use super::{
    super::{
        Cidr,
        link::{LinkError, Netlink, unless},
    },
    desired::LocalAddress,
    diff::{Observed, Step},
};

/// Marks our routes; nobody else is known to use the number (see `/etc/iproute2/rt_protos`).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(0xd7);

/// IANA's port of VXLAN.
pub(super) const PORT: u16 = 4789;

/// What decides a VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) vni: u32,
    /// This node's address, from which packets go.
    pub(super) local: Ipv4Addr,
    pub(super) hardware: [u8; 6],
    pub(super) mtu: u32,
}

/// The addresses of this host's links.
pub(super) async fn local_addresses(netlink: &Netlink) -> Result<Vec<LocalAddress>, LinkError> {
    let failed = |source| LinkError::new("list the addresses", source);
    let mut messages = netlink.handle.address().get().execute();
    let mut found = Vec::new();
    while let Some(message) = messages.try_next().await.map_err(failed)? {
        // On a point-to-point link `Address` is the other end; `Local` is ours wherever it is given.
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _other => None,
        });
        if let Some(address) = local {
            found.push(LocalAddress { address, prefix: message.header.prefix_len, link: message.header.index });
        }
    }
    Ok(found)
}

/// What is ours. `device` is the VXLAN device's index.
pub(super) async fn observe(netlink: &Netlink, cluster: Cidr, device: Option<u32>) -> Result<Observed, LinkError> {
    let mut observed = Observed::default();
    let failed = |source| LinkError::new("list the routes", source);
    let mut routes = netlink.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Some(route) = routes.try_next().await.map_err(failed)? {
        if let Some((to, gateway, link)) = own_route(&route).filter(|(to, ..)| cluster.contains(to.network())) {
            observed.routes.insert(to, (gateway, link));
        }
    }
    let Some(device) = device else { return Ok(observed) };
    let failed = |source| LinkError::new("list the neighbours", source);
    for family in [AddressFamily::Inet, AddressFamily::Bridge] {
        let mut entries = netlink.handle.neighbours().get().set_address_family(family).execute();
        while let Some(entry) = entries.try_next().await.map_err(failed)? {
            if entry.header.ifindex == device {
                note_neighbour(&entry, &mut observed);
            }
        }
    }
    Ok(observed)
}

fn own_route(route: &RouteMessage) -> Option<(Cidr, Ipv4Addr, u32)> {
    let header = &route.header;
    let ours = header.protocol == PROTOCOL && header.table == RouteHeader::RT_TABLE_MAIN;
    let mut to = None;
    let mut gateway = Ipv4Addr::UNSPECIFIED;
    let mut link = 0;
    for attribute in route.attributes.iter().filter(|_| ours) {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = *address,
            RouteAttribute::Oif(index) => link = *index,
            _other => {}
        }
    }
    Some((Cidr::new(to?, header.destination_prefix_length)?, gateway, link))
}

fn note_neighbour(entry: &NeighbourMessage, observed: &mut Observed) {
    let (mut address, mut hardware) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(*found),
            // The forwarding table gives its addresses without their family.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                address = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => hardware = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _other => {}
        }
    }
    let Some((address, hardware)) = address.zip(hardware) else { return };
    if entry.header.family == AddressFamily::Bridge {
        observed.forwarding.insert(hardware, address);
    } else if entry.header.state == NeighbourState::Permanent {
        observed.neighbours.insert(address, hardware);
    }
}

/// Makes the VXLAN device, anew when it is another, and returns its index. One that is as it should be costs a look.
pub(super) async fn ensure_device(
    netlink: &Netlink,
    name: &str,
    wanted: &Device,
    end: Ipv4Addr,
) -> Result<u32, LinkError> {
    let present = netlink.find_message(name).await?;
    let found = present.as_ref().map(|message| (describe(message), message.header.index));
    let is_up = present.is_some_and(|message| message.header.flags.contains(LinkFlags::Up));
    let index = match found {
        Some((None, _)) => {
            return Err(LinkError::new(&format!("use link {name}, which is no VXLAN device"), Error::RequestFailed));
        }
        Some((Some(device), index)) if device == *wanted && is_up => index,
        Some((Some(device), index)) if device != *wanted => make_device(netlink, name, wanted, Some(index)).await?,
        _ => make_device(netlink, name, wanted, None).await?,
    };
    netlink.ensure_address(index, end, 32).await?;
    Ok(index)
}

/// Removes the VXLAN device of that name. A link of another kind is somebody else's.
pub(super) async fn remove_device(netlink: &Netlink, name: &str) -> Result<(), LinkError> {
    match netlink.find_message(name).await?.filter(|message| describe(message).is_some()) {
        Some(device) => netlink.remove(device.header.index).await,
        None => Ok(()),
    }
}

async fn make_device(
    netlink: &Netlink,
    name: &str,
    wanted: &Device,
    in_the_way: Option<u32>,
) -> Result<u32, LinkError> {
    if let Some(other) = in_the_way {
        netlink.remove(other).await?;
    }
    let device = LinkVxlan::new(name, wanted.vni)
        .port(PORT)
        .local(wanted.local)
        .learning(false)
        .address(wanted.hardware.to_vec())
        .mtu(wanted.mtu)
        .build();
    unless(netlink.handle.link().add(device).execute().await, EEXIST, || format!("create VXLAN device {name}"))?;
    let missing = || LinkError::new(&format!("find VXLAN device {name}"), rtnetlink::Error::RequestFailed);
    let index = netlink.find(name).await?.ok_or_else(missing)?.index;
    let up = netlink.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await;
    up.map_err(|source| LinkError::new(&format!("bring up {name}"), source))?;
    Ok(index)
}

/// What device it is; `None` for what is no VXLAN device.
fn describe(message: &LinkMessage) -> Option<Device> {
    let (mut vni, mut local, mut hardware, mut mtu) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(found) => mtu = Some(*found),
            LinkAttribute::Address(bytes) => hardware = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::LinkInfo(infos) => {
                let data = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
                    _other => None,
                });
                for info in data.into_iter().flatten() {
                    match info {
                        InfoVxlan::Id(found) => vni = Some(*found),
                        InfoVxlan::Local(found) => local = Some(*found),
                        _other => {}
                    }
                }
            }
            _other => {}
        }
    }
    Some(Device { vni: vni?, local: local?, hardware: hardware?, mtu: mtu? })
}

/// Makes one step. What is there, or gone, already is no error.
pub(super) async fn apply(netlink: &Netlink, step: Step, device: Option<u32>) -> Result<(), LinkError> {
    let handle = &netlink.handle;
    let device = device.unwrap_or_default();
    match step {
        Step::RemoveRoute(to) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to.network(), to.prefix())
                .protocol(PROTOCOL)
                // Whatever its scope is.
                .scope(RouteScope::NoWhere)
                .build();
            unless(handle.route().del(route).execute().await, ESRCH, || format!("remove the route to {to}"))
        }
        Step::AddRoute { to, gateway, link } => {
            let added = handle.route().add(route(to, gateway, link)).execute().await;
            added.map_err(|source| LinkError::new(&format!("add the route to {to} by {gateway}"), source))
        }
        Step::ChangeRoute { to, gateway, link } => {
            let changed = handle.route().add(route(to, gateway, link)).replace().execute().await;
            changed.map_err(|source| LinkError::new(&format!("lead the route to {to} by {gateway}"), source))
        }
        Step::SetNeighbour(end, hardware) => {
            let entry = handle.neighbours().add(device, IpAddr::V4(end)).link_layer_address(&hardware).replace();
            entry.execute().await.map_err(|source| LinkError::new(&format!("enter neighbour {end}"), source))
        }
        Step::RemoveNeighbour(end) => {
            let entry = neighbour(device, AddressFamily::Inet, None, end);
            unless(handle.neighbours().del(entry).execute().await, ENOENT, || format!("remove neighbour {end}"))
        }
        Step::SetForwarding(hardware, node) => {
            let entry = handle.neighbours().add_bridge(device, &hardware).destination(IpAddr::V4(node));
            let entry = entry.flags(NeighbourFlags::Own).replace();
            entry.execute().await.map_err(|source| LinkError::new(&format!("lead the tunnel to {node}"), source))
        }
        Step::RemoveForwarding(hardware, node) => {
            let entry = neighbour(device, AddressFamily::Bridge, Some(hardware), node);
            unless(handle.neighbours().del(entry).execute().await, ENOENT, || format!("take the tunnel off {node}"))
        }
    }
}

fn route(to: Cidr, gateway: Ipv4Addr, link: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix())
        .gateway(gateway)
        .output_interface(link)
        .protocol(PROTOCOL)
        .onlink()
        .build()
}

fn neighbour(device: u32, family: AddressFamily, hardware: Option<[u8; 6]>, address: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = device;
    if family == AddressFamily::Bridge {
        message.header.flags = NeighbourFlags::Own;
    }
    message.attributes.extend(hardware.map(|hardware| NeighbourAttribute::LinkLayerAddress(hardware.to_vec())));
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    message
}
