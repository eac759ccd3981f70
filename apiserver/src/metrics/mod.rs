//! Numbers: `metrics.k8s.io` computed live from the agents, and the server's own `/metrics`.

mod requests;
mod stats;
#[cfg(test)]
mod tests;
mod usage;

use std::{sync::Arc, time::Duration};

use drover_api::{labels::LabelSelector, object, status::ApiError};
use futures::future::join_all;
use serde_json::{Value, json};

pub(crate) use requests::Requests;

use crate::{
    front::{Response, json_response},
    objects::{NODES, Objects, PODS},
    registry::{Environment, format_time},
    request::{RequestInfo, method_not_allowed},
    tunnel::Tunnels,
};
use stats::Stats;

/// A node that does not tell its numbers by then is left out: `kubectl top` is for people who wait.
const PATIENCE: Duration = Duration::from_secs(5);
const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// Answers `metrics.k8s.io`.
pub(crate) struct Usage {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) environment: Arc<dyn Environment>,
}

impl Usage {
    /// Whether a request is for this module.
    pub(crate) fn serves(info: &RequestInfo) -> bool {
        let place = matches!((info.resource.as_str(), info.namespace.is_empty()), ("nodes", true) | ("pods", _));
        (info.api_group.as_str(), info.api_version.as_str()) == ("metrics.k8s.io", "v1beta1")
            && place
            && info.subresource.is_empty()
    }

    /// Answers a get or list.
    ///
    /// # Errors
    /// 404 for a node or pod without numbers, 405 for other verbs, 400 for a bad selector.
    pub(crate) async fn answer(&self, info: &RequestInfo) -> Result<Response, ApiError> {
        let of_pods = info.resource == "pods";
        let single = info.verb == "get" && !info.name.is_empty();
        if !(single || info.verb == "list") || (single && of_pods && info.namespace.is_empty()) {
            return Err(method_not_allowed());
        }
        let selector = LabelSelector::parse(info.query("labelSelector").unwrap_or_default())?;
        let stats = self.collect(&self.nodes_to_ask(info)).await;
        let mut items: Vec<Value> = if of_pods { self.pods(&stats, info) } else { self.nodes(&stats) };
        items.retain(|item| selector.matches(object::labels(item)));
        items.retain(|item| info.name.is_empty() || object::name(item) == info.name);
        if single {
            return items.first().map(|item| json_response(200, item)).ok_or_else(|| unknown(info));
        }
        let kind = if of_pods { "PodMetricsList" } else { "NodeMetricsList" };
        Ok(json_response(200, &json!({"kind": kind, "apiVersion": API_VERSION, "metadata": {}, "items": items})))
    }

    /// One pod's or one node's numbers come from one agent, lists from all.
    fn nodes_to_ask(&self, info: &RequestInfo) -> Vec<String> {
        if info.name.is_empty() {
            if !self.tunnels.are_shared() {
                return self.tunnels.nodes();
            }
            let nodes = self.objects.list(NODES, "", None);
            return nodes.iter().map(|node| object::name(node).to_owned()).collect();
        }
        if info.resource == "nodes" {
            return vec![info.name.clone()];
        }
        let pod = self.objects.find(PODS, &info.namespace, &info.name).unwrap_or_default();
        vec![object::str_at(&pod, &["spec", "nodeName"]).to_owned()]
    }

    async fn collect(&self, nodes: &[String]) -> Vec<(String, Stats)> {
        let asked = nodes.iter().map(async |node| {
            let stats = tokio::time::timeout(PATIENCE, stats::fetch(&self.tunnels, node)).await;
            Some((node.clone(), stats.ok()?.ok()?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn nodes(&self, stats: &[(String, Stats)]) -> Vec<Value> {
        let now = format_time(self.environment.now());
        let numbers = stats.iter().filter_map(|(node, stats)| {
            let found = self.objects.find(NODES, "", node)?;
            Some(usage::node(&found, stats, &now))
        });
        numbers.collect()
    }

    fn pods(&self, stats: &[(String, Stats)], info: &RequestInfo) -> Vec<Value> {
        let now = format_time(self.environment.now());
        let mut items = Vec::new();
        for (node, stats) in stats {
            let here = |pod: &&stats::Pod| info.namespace.is_empty() || pod.namespace == info.namespace;
            for numbers in stats.pods.iter().filter(here) {
                // An agent speaks only for pods that are bound to its node.
                let pod = self.objects.find(PODS, &numbers.namespace, &numbers.name).unwrap_or_default();
                if object::uid(&pod) == numbers.uid && object::str_at(&pod, &["spec", "nodeName"]) == node {
                    items.push(usage::pod(&pod, numbers, &now));
                }
            }
        }
        items
    }
}

fn unknown(info: &RequestInfo) -> ApiError {
    let (resource, name) = (&info.resource, &info.name);
    let mut error = ApiError::new(404, "NotFound", format!("{resource}.metrics.k8s.io {name:?} not found"));
    error.details = json!({"name": name, "group": "metrics.k8s.io", "kind": resource});
    error
}
