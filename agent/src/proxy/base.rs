//! The chains that hang on the kernel's hooks; they are the same whatever the Services are.

use super::{
    desired::ProxyConfig,
    tables::{Chain, Tables},
};

/// Enters the base chains.
pub(super) fn add_chains(tables: &mut Tables, config: &ProxyConfig) {
    let translate = tables.add_chain("translate", Chain { hook: None, rules: translation() });
    let jump = vec![format!("jump {translate}")];
    // Before Docker's own translation (priority -100): whoever translates first decides.
    for hook in ["prerouting", "output"] {
        let header = format!("type nat hook {hook} priority -110; policy accept;");
        tables.add_chain(hook, Chain { hook: Some(header), rules: jump.clone() });
    }
    let header = "type nat hook postrouting priority 90; policy accept;".to_owned();
    tables.add_chain("postrouting", Chain { hook: Some(header), rules: masquerading(config) });
    let services = format!("ip daddr {}", config.service_cidr);
    for hook in ["forward", "output"] {
        let header = format!("type filter hook {hook} priority -10; policy accept;");
        tables.add_chain(&format!("reject{hook}"), Chain { hook: Some(header), rules: rejection(&services) });
    }
    let header = "type filter hook input priority -10; policy accept;".to_owned();
    let ports = "fib daddr type local meta l4proto . th dport @rejected";
    tables.add_chain("rejectinput", Chain { hook: Some(header), rules: rejection(ports) });
}

/// Addresses of the loopback network stay out: translating them would need route_localnet, which exposes the services
/// of every host on its own loopback to its neighbours (CVE-2020-8558).
fn translation() -> Vec<String> {
    let local = "ip daddr != 127.0.0.0/8 fib daddr type local";
    vec![
        "ip daddr . meta l4proto . th dport vmap @services".to_owned(),
        format!("{local} meta l4proto . th dport vmap @nodeports"),
        "ip daddr != 127.0.0.0/8 dnat ip to ip daddr . meta l4proto . th dport map @hostportips".to_owned(),
        format!("{local} dnat ip to meta l4proto . th dport map @hostports"),
    ]
}

/// The source address is kept wherever the answer comes back this way by itself. It does not: from a pod that reached
/// itself through a Service, from a pod of another node that an outside client reached through this one, and from
/// outside the cluster to a pod.
fn masquerading(config: &ProxyConfig) -> Vec<String> {
    let ProxyConfig { table: _, node: _, pod_cidr, cluster_cidr, service_cidr: _ } = config;
    vec![
        "ct status dnat ip saddr . ip daddr @hairpin masquerade".to_owned(),
        format!("ct status dnat ip saddr != {cluster_cidr} ip daddr {cluster_cidr} ip daddr != {pod_cidr} masquerade"),
        format!("ip saddr {pod_cidr} ip daddr != {cluster_cidr} masquerade"),
    ]
}

/// What nothing translated is refused at once instead of timing out.
fn rejection(condition: &str) -> Vec<String> {
    vec![
        format!("{condition} meta l4proto tcp reject with tcp reset"),
        format!("{condition} reject with icmp type port-unreachable"),
    ]
}
