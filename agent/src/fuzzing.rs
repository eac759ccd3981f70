//! One entry a parser of this crate; see `drover_api::fuzzing` for the rules.

use std::net::Ipv4Addr;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodSpec, Service};
use serde_json::Value;

use crate::{dns, engine, network, streams};

/// Takes any bytes and must not panic.
pub type Run = fn(&[u8]);

/// Every parser of this crate that faces the network or the disk.
pub const TARGETS: &[(&str, Run)] = &[
    ("dns_message", dns_message),
    ("dns_name", dns_name),
    ("resolv_conf", resolv_conf),
    ("agent_request", agent_request),
    ("agent_frames", agent_frames),
    ("engine_answer", engine_answer),
];

/// What a stranger may send to the DNS server: the reply is never longer than ten questions (A58).
fn dns_message(bytes: &[u8]) {
    if let Some(reply) = dns::refusal(bytes) {
        assert!(reply.len() <= bytes.len().max(12) + 16, "a refusal amplifies");
    }
}

fn dns_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let service: Service = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"name": "x", "port": 1, "protocol": "TCP"}]},
    }))
    .expect("a literal");
    let input = dns::DnsInput { services: vec![service.into()], ..Default::default() };
    let zone = dns::Zone::new(&input, Vec::new());
    for record_type in ["A", "SRV", "PTR", "ANY", "TXT"] {
        dns::answer(&zone, text, record_type, bytes.len());
    }
}

fn resolv_conf(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let ourselves = Ipv4Addr::new(10, 128, 0, 1);
    assert!(dns::resolvers(text, ourselves).iter().all(|found| found.ip() != ourselves));
    let pod = k8s_openapi::api::core::v1::Pod { spec: Some(PodSpec::default()), ..Default::default() };
    let file = network::resolver_file(&pod, Some(ourselves), text);
    assert!(file.lines().all(|line| ["nameserver ", "search ", "options "].iter().any(|word| line.starts_with(word))));
}

fn agent_request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    for method in [Method::GET, Method::POST] {
        streams::reads_route(&method, path, query, Timestamp::UNIX_EPOCH);
    }
}

fn agent_frames(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first() else { return };
    streams::reads_frames(rest, usize::from(*size).max(1));
}

/// A hostile engine: whatever it answers is understood or refused.
fn engine_answer(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Value>(bytes) {
        engine::reads_answer(&answer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, text: String) {
            for (_, run) in TARGETS {
                run(&bytes);
                run(text.as_bytes());
            }
        }
    }
}
