//! Which pods words such as `web-1`, `deploy/web` or `svc/web` mean.

use drover_api::object;
use serde_json::Value;

use crate::{
    cluster::{Cluster, Query, Resource},
    failure::Failure,
    input::select_one,
};

/// Pods, and the selector that finds those that will join them.
#[derive(Debug)]
pub(crate) struct Pods {
    /// The pods there are now.
    pub(crate) found: Vec<Value>,
    /// A label selector, when a workload or a Service was named.
    pub(crate) selector: Option<String>,
    /// What was named: `deployment/web`.
    pub(crate) label: String,
}

/// Finds the pods of a pod name, a workload or a Service.
///
/// # Errors
/// When the object does not exist or selects no pods by its nature.
pub(crate) async fn find(cluster: &Cluster, word: &str) -> anyhow::Result<Pods> {
    let (resource, name) = select_one(cluster, &[word.to_owned()], Some("pods")).await?;
    let found = cluster.get(&resource.object(&cluster.namespace, &name)).await?;
    let label = format!("{}/{name}", resource.singular);
    if resource.kind == "Pod" {
        return Ok(Pods { found: vec![found], selector: None, label });
    }
    let Some(selector) = selector_of(&found) else {
        let help = "name a pod, or a Deployment, ReplicaSet or Service with a selector";
        return Err(Failure::new(format!("{label} selects no pods")).help(help).into());
    };
    let found = list(cluster, &selector).await?;
    Ok(Pods { found, selector: Some(selector), label })
}

/// Lists the pods that a label selector finds in the namespace.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn list(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<Value>> {
    let pods: Resource = cluster.resource("pods").await?;
    let query = Query::new().with("labelSelector", selector);
    let mut found = cluster.list(&query.on(&pods.collection(Some(&cluster.namespace)))).await?;
    found.sort_by(|left, right| object::name(left).cmp(object::name(right)));
    Ok(found)
}

/// The label selector of a workload (`matchLabels`, `matchExpressions`) or a Service (a plain map).
pub(crate) fn selector_of(found: &Value) -> Option<String> {
    let selector = object::at(found, &["spec", "selector"])?;
    let is_plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let text = if is_plain {
        let pairs = selector.as_object()?.iter();
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
    } else {
        drover_api::labels::LabelSelector::from_object(selector).ok()?.to_string()
    };
    (!text.is_empty()).then_some(text)
}

/// The names of a pod's containers, init containers first.
pub(crate) fn containers(pod: &Value) -> (Vec<&str>, Vec<&str>) {
    let names = |field: &str| -> Vec<&str> {
        let listed = object::at(pod, &["spec", field]).and_then(Value::as_array);
        listed.into_iter().flatten().map(|container| object::str_at(container, &["name"])).collect()
    };
    (names("initContainers"), names("containers"))
}

/// The container that is meant when none is named: the annotated one, else the first.
pub(crate) fn default_container(pod: &Value) -> String {
    let annotated = object::str_at(pod, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    let (_, names) = containers(pod);
    if names.contains(&annotated) {
        annotated.to_owned()
    } else {
        names.first().copied().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_of_workloads_and_services_become_text() {
        assert_eq!(selector_of(&json!({"spec": {"selector": {"app": "web", "tier": "x"}}})).unwrap(), "app=web,tier=x");
        assert_eq!(selector_of(&json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}})).unwrap(), "app=web");
        assert_eq!(selector_of(&json!({"spec": {"selector": {}}})), None);
        assert_eq!(selector_of(&json!({"spec": {}})), None);
    }

    #[test]
    fn the_annotated_container_is_the_default() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(default_container(&pod), "a");
        pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "b"});
        assert_eq!(default_container(&pod), "b");
    }
}
