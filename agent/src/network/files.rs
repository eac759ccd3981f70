//! Contents of the files a pod gets for name resolution: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`. Pure.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec};

/// The suffix of every name in the cluster.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// A resolver ignores name servers after the third (`MAXNS` in resolv.h).
const NAMESERVERS: usize = 3;

/// Kubernetes' limit on search domains.
const SEARCHES: usize = 32;

/// Host names longer than a DNS label are cut.
const HOSTNAME: usize = 63;

/// The contents of a `resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The host name inside the pod: `spec.hostname`, else the pod's name cut to a label; the full name when
/// `setHostnameAsFQDN` asks for it.
pub fn hostname(pod: &Pod) -> String {
    let short = short_hostname(pod);
    let whole = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    full_hostname(pod).filter(|_| whole).unwrap_or(short)
}

/// `/etc/hosts` of the pod. `host` is the node's own file, used for pods in the host's network.
pub fn hosts_file(pod: &Pod, address: Option<Ipv4Addr>, host: &str) -> String {
    let mut text = "# Managed by Drover.\n".to_owned();
    if on_host_network(pod) {
        text.push_str(host.trim_end());
        text.push('\n');
    } else {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        text.push_str(
            "fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
        if let Some(address) = address {
            let names = full_hostname(pod).into_iter().chain([short_hostname(pod)]).collect::<Vec<_>>();
            push_line(&mut text, &address.to_string(), &names.join("\t"));
        }
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_ref());
    for alias in aliases.into_iter().flatten() {
        push_line(&mut text, &alias.ip, &alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t"));
    }
    text
}

/// `/etc/resolv.conf` of the pod after its `dnsPolicy` and `dnsConfig`. `nameserver` is the cluster's DNS server (`None`
/// when this node has none), `host` the node's own file.
pub fn resolver_file(pod: &Pod, nameserver: Option<Ipv4Addr>, host: &str) -> String {
    let spec = pod.spec.as_ref();
    let on_host = on_host_network(pod);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster_first = policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !on_host);
    let node = Resolver::parse(host);
    let mut resolver = match nameserver {
        _ if policy == "None" => Resolver::default(),
        Some(address) if cluster_first => node.behind_cluster(address, pod.metadata.namespace.as_deref()),
        Some(_) | None if on_host => node,
        Some(_) | None => node.for_a_pod(nameserver),
    };
    if let Some(config) = spec.and_then(|spec: &PodSpec| spec.dns_config.as_ref()) {
        resolver.add(config);
    }
    resolver.render()
}

fn on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

fn short_hostname(pod: &Pod) -> String {
    let chosen = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let name = chosen.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.chars().take(HOSTNAME).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

fn full_hostname(pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_ref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    Some(format!("{}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}", short_hostname(pod)))
}

fn push_line(text: &mut String, address: &str, names: &str) {
    writeln!(text, "{address}\t{names}").expect("writing to a String cannot fail");
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next().unwrap_or_default();
            let values = words.take_while(|word| !word.starts_with(['#', ';'])).map(str::to_owned);
            match keyword {
                "nameserver" => resolver.nameservers.extend(values.take(1)),
                // The last of several lines wins, see resolv.conf(5).
                "search" | "domain" => resolver.searches = values.collect(),
                "options" => resolver.options.extend(values),
                _ => {}
            }
        }
        resolver
    }

    /// Our server first and alone: it forwards what is not the cluster's, and a second one would be asked for cluster
    /// names too.
    fn behind_cluster(self, address: Ipv4Addr, namespace: Option<&str>) -> Self {
        let namespace = namespace.unwrap_or("default");
        let cluster =
            [format!("{namespace}.svc.{CLUSTER_DOMAIN}"), format!("svc.{CLUSTER_DOMAIN}"), CLUSTER_DOMAIN.into()];
        let searches = cluster.into_iter().chain(self.searches).collect();
        Self { nameservers: vec![address.to_string()], searches, options: vec!["ndots:5".to_owned()] }
    }

    /// The node's settings without the servers on the node's loopback, which is another one inside the pod.
    fn for_a_pod(mut self, nameserver: Option<Ipv4Addr>) -> Self {
        self.nameservers.retain(|text| !text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()));
        if self.nameservers.is_empty() {
            self.nameservers.extend(nameserver.map(|address| address.to_string()));
        }
        self
    }

    fn add(&mut self, config: &PodDNSConfig) {
        for server in config.nameservers.iter().flatten() {
            if !self.nameservers.contains(server) {
                self.nameservers.push(server.clone());
            }
        }
        self.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            self.options.retain(|present| present.split(':').next() != Some(name));
            self.options.push(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
    }

    fn render(&self) -> String {
        let mut searches: Vec<&str> = Vec::new();
        for search in &self.searches {
            if !searches.contains(&search.as_str()) {
                searches.push(search);
            }
        }
        searches.truncate(SEARCHES);
        let mut text = String::new();
        for server in self.nameservers.iter().take(NAMESERVERS) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !searches.is_empty() {
            text.push_str(&format!("search {}\n", searches.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    const HOST: &str =
        "# home\nnameserver 127.0.0.53\nnameserver 192.0.2.53 # upstream\nsearch corp.example\noptions edns0\n";

    fn pod(spec: &Value) -> Pod {
        let metadata = json!({ "name": "web-0", "namespace": "shop" });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn gateway() -> Option<Ipv4Addr> {
        Some(Ipv4Addr::new(10, 128, 0, 1))
    }

    fn check_resolver(spec: &Value, nameserver: Option<Ipv4Addr>, expected: &Expect) {
        expected.assert_eq(&resolver_file(&pod(spec), nameserver, HOST));
    }

    #[test]
    fn cluster_names_come_first() {
        let cluster = expect![[r#"
            nameserver 10.128.0.1
            search shop.svc.cluster.local svc.cluster.local cluster.local corp.example
            options ndots:5
        "#]];
        check_resolver(&json!({ "containers": [] }), gateway(), &cluster);
        let on_host = json!({ "containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" });
        check_resolver(&on_host, gateway(), &cluster);
    }

    #[test]
    fn a_pod_on_the_hosts_network_resolves_as_the_host() {
        let host = expect![[r#"
            nameserver 127.0.0.53
            nameserver 192.0.2.53
            search corp.example
            options edns0
        "#]];
        check_resolver(&json!({ "containers": [], "hostNetwork": true }), gateway(), &host);
    }

    #[test]
    fn the_default_policy_leaves_out_servers_a_pod_cannot_reach() {
        let reachable = expect![[r#"
            nameserver 192.0.2.53
            search corp.example
            options edns0
        "#]];
        check_resolver(&json!({ "containers": [], "dnsPolicy": "Default" }), gateway(), &reachable);
        check_resolver(&json!({ "containers": [] }), None, &reachable);
    }

    #[test]
    fn the_pods_own_settings_are_merged() {
        let config = json!({ "nameservers": ["1.1.1.1", "10.128.0.1", "2.2.2.2", "3.3.3.3"],
            "searches": ["corp.example", "extra.example"],
            "options": [{ "name": "ndots", "value": "2" }, { "name": "rotate" }] });
        let merged = expect![[r#"
            nameserver 10.128.0.1
            nameserver 1.1.1.1
            nameserver 2.2.2.2
            search shop.svc.cluster.local svc.cluster.local cluster.local corp.example extra.example
            options ndots:2 rotate
        "#]];
        check_resolver(&json!({ "containers": [], "dnsConfig": config }), gateway(), &merged);
        let only = expect![[r#"
            nameserver 1.1.1.1
            nameserver 10.128.0.1
            nameserver 2.2.2.2
            search corp.example extra.example
            options ndots:2 rotate
        "#]];
        check_resolver(&json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": config }), gateway(), &only);
    }

    #[test]
    fn the_hosts_file_knows_the_pod_and_its_aliases() {
        let spec = json!({ "containers": [], "subdomain": "db", "hostname": "first",
            "hostAliases": [{ "ip": "192.0.2.7", "hostnames": ["a", "b"] }] });
        let text = hosts_file(&pod(&spec), Some(Ipv4Addr::new(10, 128, 0, 9)), "unused");
        expect![[r#"
            # Managed by Drover.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            ff00::0	ip6-mcastprefix
            ff02::1	ip6-allnodes
            ff02::2	ip6-allrouters
            10.128.0.9	first.db.shop.svc.cluster.local	first
            192.0.2.7	a	b
        "#]]
        .assert_eq(&text);
        assert_eq!(hostname(&pod(&spec)), "first");
    }

    #[test]
    fn on_the_hosts_network_the_hosts_file_stays() {
        let spec = json!({ "containers": [], "hostNetwork": true });
        let text = hosts_file(&pod(&spec), None, "127.0.0.1 localhost\n192.0.2.2 node\n\n");
        assert_eq!(text, "# Managed by Drover.\n127.0.0.1 localhost\n192.0.2.2 node\n");
    }

    #[test]
    fn a_host_name_is_one_label_unless_the_full_name_is_asked_for() {
        let mut long = pod(&json!({ "containers": [] }));
        long.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
        assert_eq!(hostname(&long), "a".repeat(62));
        let whole = json!({ "containers": [], "subdomain": "db", "setHostnameAsFQDN": true });
        assert_eq!(hostname(&pod(&whole)), "web-0.db.shop.svc.cluster.local");
    }
}
