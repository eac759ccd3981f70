//! Which container of which pod on which node a stream is about, and what to say when there is none: pure.

use drover_api::{object, status::ApiError};
use serde_json::{Value, json};

/// A container that can be asked for through a node's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) container: String,
}

impl Target {
    /// Picks the container; `node` stays empty for a pod that is not bound.
    ///
    /// # Errors
    /// 400 in Kubernetes' words when the container is unknown or must be named.
    pub(super) fn of(pod: &Value, container: Option<&str>) -> Result<Self, ApiError> {
        let name = object::name(pod);
        let container = match container.filter(|container| !container.is_empty()) {
            Some(wanted) if all_containers(pod).any(|own| own == wanted) => wanted.to_owned(),
            Some(other) => {
                return Err(ApiError::bad_request(format!("container {other} is not valid for pod {name}")));
            }
            None => only_container(pod)?,
        };
        Ok(Self {
            namespace: object::namespace(pod).to_owned(),
            pod: name.to_owned(),
            uid: object::uid(pod).to_owned(),
            node: object::str_at(pod, &["spec", "nodeName"]).to_owned(),
            container,
        })
    }

    /// Refuses a pod that is on no node.
    ///
    /// # Errors
    /// 400 in Kubernetes' words.
    pub(super) fn require_node(self) -> Result<Self, ApiError> {
        if self.node.is_empty() {
            return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", self.pod)));
        }
        Ok(self)
    }
}

/// 404 of a pod.
pub(super) fn no_such_pod(name: &str) -> ApiError {
    let mut error = ApiError::new(404, "NotFound", format!("pods {name:?} not found"));
    error.details = json!({"name": name, "kind": "pods"});
    error
}

/// Says why a container has no logs, as the kubelet does; `None` when its status gives no reason.
pub(super) fn why_no_logs(pod: &Value, container: &str, previous: bool) -> Option<ApiError> {
    let name = object::name(pod);
    let status = container_status(pod, container).cloned().unwrap_or_default();
    let ended_before = !object::str_at(&status, &["lastState", "terminated", "containerID"]).is_empty();
    if previous {
        let text = format!("previous terminated container {container:?} in pod {name:?} not found");
        return (!ended_before).then(|| ApiError::bad_request(text));
    }
    let state = |key: &str| object::at(&status, &["state", key]).is_some_and(|state| !state.is_null());
    if state("running") || state("terminated") || ended_before {
        return None;
    }
    let reason = match object::str_at(&status, &["state", "waiting", "reason"]) {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        "" => "ContainerCreating",
        other => other,
    };
    let text = format!("container {container:?} in pod {name:?} is waiting to start: {reason}");
    Some(ApiError::bad_request(text))
}

fn only_container(pod: &Value) -> Result<String, ApiError> {
    let names: Vec<&str> = containers(pod, "containers").collect();
    if let [only] = names.as_slice() {
        return Ok((*only).to_owned());
    }
    let inits: Vec<&str> = containers(pod, "initContainers").collect();
    let pod = object::name(pod);
    let mut text = format!("a container name must be specified for pod {pod}");
    if !names.is_empty() {
        text += &format!(", choose one of: [{}]", names.join(" "));
    }
    if !inits.is_empty() {
        text += &format!(" or one of the init containers: [{}]", inits.join(" "));
    }
    Err(ApiError::bad_request(text))
}

fn all_containers(pod: &Value) -> impl Iterator<Item = &str> {
    ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|key| containers(pod, key))
}

fn containers<'a>(pod: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    let list = object::at(pod, &["spec", key]).and_then(Value::as_array).into_iter().flatten();
    list.map(|container| object::str_at(container, &["name"]))
}

fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let keys = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let lists = keys.into_iter().filter_map(|key| object::at(pod, &["status", key])?.as_array());
    lists.flatten().find(|status| object::str_at(status, &["name"]) == container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str]) -> Value {
        let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
        json!({"metadata": {"name": "y", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "n1", "containers": containers, "initContainers": [{"name": "i"}]}})
    }

    fn refusal(result: Result<Target, ApiError>) -> (u16, String) {
        let error = result.unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn the_only_container_need_not_be_named() {
        assert_eq!(Target::of(&pod(&["a"]), None).unwrap().container, "a");
        assert_eq!(Target::of(&pod(&["a", "b"]), Some("b")).unwrap().container, "b");
        assert_eq!(Target::of(&pod(&["a"]), Some("i")).unwrap().container, "i");
    }

    #[test]
    fn refusals_are_kubernetes_own() {
        let expected = "a container name must be specified for pod y, choose one of: [a b] or one of the init \
                        containers: [i]";
        assert_eq!(refusal(Target::of(&pod(&["a", "b"]), None)), (400, expected.to_owned()));
        let expected = "container x is not valid for pod y";
        assert_eq!(refusal(Target::of(&pod(&["a"]), Some("x"))), (400, expected.to_owned()));
    }

    #[test]
    fn missing_logs_are_explained_by_the_container_status() {
        let explain = |state: Value, previous: bool| {
            let mut pod = pod(&["a"]);
            pod["status"]["containerStatuses"] = json!([{"name": "a", "state": state}]);
            why_no_logs(&pod, "a", previous).map(|error| error.message)
        };
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        assert_eq!(
            explain(waiting("ContainerCreating"), false).unwrap(),
            "container \"a\" in pod \"y\" is waiting to start: ContainerCreating"
        );
        assert_eq!(
            explain(waiting("ImagePullBackOff"), false).unwrap(),
            "container \"a\" in pod \"y\" is waiting to start: trying and failing to pull image"
        );
        assert_eq!(explain(json!({"running": {}}), false), None);
        assert_eq!(
            explain(json!({"running": {}}), true).unwrap(),
            "previous terminated container \"a\" in pod \"y\" not found"
        );
    }
}
