use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::json;

use super::{
    super::{Cidr, link::hardware_address},
    *,
};

fn own() -> Own {
    let cidr = |text: &str| text.parse().unwrap();
    Own {
        node_name: "me".into(),
        pod_cidr: cidr("10.128.0.0/22"),
        cluster_cidr: cidr("10.128.0.0/9"),
        service_cidr: cidr("10.96.0.0/16"),
    }
}

fn node(name: &str, pod_cidr: &str, address: &str) -> Arc<Node> {
    let node = json!({"metadata": {"name": name}, "spec": {"podCIDR": pod_cidr},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]}});
    Arc::new(serde_json::from_value(node).unwrap())
}

fn host() -> Vec<LocalAddress> {
    let local = |address: [u8; 4], prefix, link| LocalAddress { address: address.into(), prefix, link };
    let own = [local([127, 0, 0, 1], 8, 1), local([192, 0, 2, 1], 24, 2), local([192, 0, 2, 1], 32, 3)];
    // Of a bridge of containers, say: the same network is somewhere else, too.
    own.into_iter().chain([local([198, 51, 100, 1], 24, 4)]).collect()
}

#[test]
fn neighbours_are_routed_to_and_others_tunnelled() {
    let nodes = [
        node("me", "10.128.0.0/22", "192.0.2.1"),
        node("near", "10.128.4.0/22", "192.0.2.2"),
        node("far", "10.128.8.0/22", "198.51.100.3"),
        node("starts", "10.128.12.0/22", ""),
        node("twin of this host", "10.128.16.0/22", "192.0.2.1"),
    ];
    let (peers, left_out) = peers(&nodes, &own());
    assert_eq!(left_out, BTreeMap::new());
    let fabric = desired(&peers, Some(Ipv4Addr::new(192, 0, 2, 1)), &host());
    let (near, far) = ("10.128.4.0/22".parse().unwrap(), "10.128.8.0/22".parse().unwrap());
    let end = Ipv4Addr::new(10, 128, 8, 0);
    assert_eq!(
        fabric.routes,
        BTreeMap::from([
            (near, Hop::Link { gateway: Ipv4Addr::new(192, 0, 2, 2), link: 2 }),
            (far, Hop::Tunnel { gateway: end })
        ])
    );
    assert_eq!(fabric.tunnel, BTreeMap::from([(end, Ipv4Addr::new(198, 51, 100, 3))]));
    let hardware = hardware_address(end);
    assert_eq!(
        diff(&Observed::default(), &fabric, Some(9)),
        [
            Step::SetForwarding(hardware, Ipv4Addr::new(198, 51, 100, 3)),
            Step::SetNeighbour(end, hardware),
            Step::AddRoute { to: near, gateway: Ipv4Addr::new(192, 0, 2, 2), link: 2 },
            Step::AddRoute { to: far, gateway: end, link: 9 },
        ]
    );
    // The device is gone: what led through it goes, the rest stays.
    let all = Observed {
        routes: BTreeMap::from([(near, (Ipv4Addr::new(192, 0, 2, 2), 2)), (far, (end, 9))]),
        ..Observed::default()
    };
    assert_eq!(diff(&all, &fabric, None), [Step::RemoveRoute(far)]);
}

#[test]
fn a_node_that_moves_is_first_forgotten_where_it_was() {
    let at = |address: &str| {
        desired(&peers(&[node("n", "10.128.4.0/22", address)], &own()).0, Some(Ipv4Addr::new(192, 0, 2, 1)), &host())
    };
    let end = Ipv4Addr::new(10, 128, 4, 0);
    let hardware = hardware_address(end);
    let before = Observed {
        routes: BTreeMap::from([("10.128.4.0/22".parse().unwrap(), (end, 9))]),
        neighbours: BTreeMap::from([(end, hardware)]),
        forwarding: BTreeMap::from([(hardware, Ipv4Addr::new(198, 51, 100, 3))]),
    };
    assert_eq!(diff(&before, &at("198.51.100.3"), Some(9)), []);
    assert_eq!(
        diff(&before, &at("198.51.100.4"), Some(9)),
        [
            Step::RemoveForwarding(hardware, Ipv4Addr::new(198, 51, 100, 3)),
            Step::SetForwarding(hardware, Ipv4Addr::new(198, 51, 100, 4)),
        ]
    );
}

#[test]
fn a_route_that_leads_another_way_is_changed_and_never_missing() {
    let near = desired(
        &peers(&[node("n", "10.128.4.0/22", "192.0.2.9")], &own()).0,
        Some(Ipv4Addr::new(192, 0, 2, 1)),
        &host(),
    );
    let to = "10.128.4.0/22".parse().unwrap();
    let before = Observed { routes: BTreeMap::from([(to, (Ipv4Addr::new(10, 128, 4, 0), 9))]), ..Observed::default() };
    let changed = Step::ChangeRoute { to, gateway: Ipv4Addr::new(192, 0, 2, 9), link: 2 };
    assert_eq!(diff(&before, &near, None), [changed]);
}

#[test]
fn what_a_node_must_not_claim_is_left_out_with_the_reason() {
    let nodes = [
        node("a", "10.128.4.0/22", "192.0.2.2"),
        node("b1", "nonsense", "192.0.2.11"),
        node("b2", "10.0.0.0/8", "192.0.2.12"),
        node("b3", "11.0.0.0/22", "192.0.2.13"),
        node("b4", "10.128.1.0/24", "192.0.2.14"),
        node("b5", "10.128.4.0/24", "192.0.2.15"),
        node("b6", "10.128.20.0/22", "192.0.2.2"),
        node("b7", "10.128.24.0/22", "127.0.0.1"),
        node("b8", "10.128.28.0/22", "0.0.0.0"),
        node("b9", "10.128.32.0/22", "224.0.0.1"),
        node("c1", "10.128.36.0/22", "10.128.4.9"),
        node("c2", "10.128.40.0/22", "10.96.0.1"),
        node("c3", "10.128.44.0/22", "169.254.169.254"),
    ];
    let (peers, left_out) = peers(&nodes, &own());
    assert_eq!(peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let told: Vec<String> = left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(
        told,
        [
            "b1: \"nonsense\" is no network",
            "b2: 10.0.0.0/8 lies outside of the cluster's 10.128.0.0/9",
            "b3: 11.0.0.0/22 lies outside of the cluster's 10.128.0.0/9",
            "b4: 10.128.1.0/24 is this node's own",
            "b5: 10.128.4.0/24 at 192.0.2.15 is a's already",
            "b6: 10.128.20.0/22 at 192.0.2.2 is a's already",
            "b7: nobody is reached at 127.0.0.1",
            "b8: nobody is reached at 0.0.0.0",
            "b9: nobody is reached at 224.0.0.1",
            "c1: 10.128.4.9 is an address of pods or Services",
            "c2: 10.96.0.1 is an address of pods or Services",
            "c3: nobody is reached at 169.254.169.254",
        ]
    );
}

/// The kernel, as far as steps change it.
fn play(mut kernel: Observed, steps: &[Step]) -> Observed {
    for step in steps {
        match *step {
            Step::RemoveRoute(to) => drop(kernel.routes.remove(&to)),
            Step::AddRoute { to, gateway, link } => {
                assert_eq!(kernel.routes.insert(to, (gateway, link)), None, "a route is added where none is");
            }
            Step::ChangeRoute { to, gateway, link } => {
                assert!(kernel.routes.insert(to, (gateway, link)).is_some(), "only our own is replaced");
            }
            Step::RemoveNeighbour(end) => drop(kernel.neighbours.remove(&end)),
            Step::SetNeighbour(end, hardware) => drop(kernel.neighbours.insert(end, hardware)),
            Step::RemoveForwarding(hardware, _) => drop(kernel.forwarding.remove(&hardware)),
            Step::SetForwarding(hardware, node) => drop(kernel.forwarding.insert(hardware, node)),
        }
    }
    kernel
}

proptest! {
    /// From any nodes to any others: one comparison makes the kernel right, a second finds nothing, and the order in
    /// which the Nodes are listed means nothing. Nothing leads into our own pods' network or out of the cluster's.
    #[test]
    fn one_comparison_makes_it_right_from_wherever(
        before in prop::collection::vec((0u8..6, 0u8..6, any::<bool>()), 0..6),
        after in prop::collection::vec((0u8..6, 0u8..6, any::<bool>()), 0..6),
    ) {
        let nodes = |drawn: &[(u8, u8, bool)]| -> Vec<Arc<Node>> {
            let drawn = drawn.iter().enumerate();
            drawn.map(|(index, (network, host, near))| {
                let address = format!("{}.{}", if *near { "192.0.2" } else { "198.51.100" }, host + 1);
                node(&format!("n{index}"), &format!("10.128.{}.0/22", network * 4), &address)
            }).collect()
        };
        let fabric = |nodes: &[Arc<Node>]| desired(&peers(nodes, &own()).0, Some(Ipv4Addr::new(192, 0, 2, 1)), &host());
        let kernel = play(Observed::default(), &diff(&Observed::default(), &fabric(&nodes(&before)), Some(9)));
        let mut list = nodes(&after);
        let wanted = fabric(&list);
        let kernel = play(kernel.clone(), &diff(&kernel, &wanted, Some(9)));
        prop_assert_eq!(diff(&kernel, &wanted, Some(9)), vec![]);
        prop_assert_eq!(kernel.routes.len(), wanted.routes.len());
        prop_assert_eq!(kernel.forwarding.len(), wanted.tunnel.len());
        for to in kernel.routes.keys() {
            prop_assert!(*to != own().pod_cidr && own().cluster_cidr.contains(Cidr::network(*to)));
        }
        list.reverse();
        prop_assert_eq!(fabric(&list), wanted);
    }
}
