//! Variables that tell of Services, as Kubernetes has had them since before DNS.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// Returns the variables of the services of `namespace`, or, without links, only those of `default/kubernetes`.
pub(super) fn variables(services: &[&Service], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (name, own) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
        let Some(name) = name.filter(|_| cluster_ip(service).is_some()) else { continue };
        let master = name == "kubernetes" && own == Some("default");
        // A service of the pod's own namespace goes before the master service of that name.
        if links && own == Some(namespace) {
            chosen.insert(name, service);
        } else if master {
            chosen.entry(name).or_insert(service);
        }
    }
    chosen.into_iter().flat_map(|(name, service)| of_service(name, service)).collect()
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!address.is_empty() && address != "None").then_some(address)
}

fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let (Some(address), Some(spec)) = (cluster_ip(service), service.spec.as_ref()) else { return Vec::new() };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(name);
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let ports = spec.ports.iter().flatten();
    let mut variables = vec![(format!("{prefix}_SERVICE_HOST"), address.to_owned())];
    for (index, port) in ports.enumerate() {
        let number = port.port.to_string();
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if index == 0 {
            variables.push((format!("{prefix}_SERVICE_PORT"), number.clone()));
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", upper(port_name)), number.clone()));
        }
        let of_port = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        variables.push((of_port.clone(), url));
        variables.push((format!("{of_port}_PROTO"), protocol.to_lowercase()));
        variables.push((format!("{of_port}_PORT"), number));
        variables.push((format!("{of_port}_ADDR"), address.to_owned()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, address: &str, ports: &serde_json::Value) -> Service {
        serde_json::from_value(json!({
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "clusterIP": address, "ports": ports },
        }))
        .unwrap()
    }

    #[test]
    fn a_service_is_told_of_in_all_its_variables() {
        let ports = json!([{ "name": "http-web", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
        let service = service("ns", "my-db", "10.96.0.9", &ports);
        let text: Vec<String> =
            variables(&[&service], "ns", true).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect_test::expect![[r#"
            MY_DB_SERVICE_HOST=10.96.0.9
            MY_DB_SERVICE_PORT=80
            MY_DB_PORT=tcp://10.96.0.9:80
            MY_DB_SERVICE_PORT_HTTP_WEB=80
            MY_DB_PORT_80_TCP=tcp://10.96.0.9:80
            MY_DB_PORT_80_TCP_PROTO=tcp
            MY_DB_PORT_80_TCP_PORT=80
            MY_DB_PORT_80_TCP_ADDR=10.96.0.9
            MY_DB_SERVICE_PORT_DNS=53
            MY_DB_PORT_53_UDP=udp://10.96.0.9:53
            MY_DB_PORT_53_UDP_PROTO=udp
            MY_DB_PORT_53_UDP_PORT=53
            MY_DB_PORT_53_UDP_ADDR=10.96.0.9"#]]
        .assert_eq(&text.join("\n"));
    }

    #[test]
    fn the_master_service_is_always_told_of_and_others_only_with_links() {
        let ports = json!([{ "port": 443 }]);
        let all = [
            service("default", "kubernetes", "10.96.0.1", &ports),
            service("ns", "web", "10.96.0.2", &ports),
            service("ns", "headless", "None", &ports),
            service("other", "db", "10.96.0.3", &ports),
        ];
        let all: Vec<&Service> = all.iter().collect();
        let hosts = |namespace: &str, links| -> Vec<String> {
            let hosts = variables(&all, namespace, links).into_iter();
            hosts.map(|(name, _)| name).filter(|name| name.ends_with("_SERVICE_HOST")).collect()
        };
        assert_eq!(hosts("ns", true), ["KUBERNETES_SERVICE_HOST", "WEB_SERVICE_HOST"]);
        assert_eq!(hosts("ns", false), ["KUBERNETES_SERVICE_HOST"]);
    }
}
