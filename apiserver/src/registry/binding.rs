//! `pods/binding`: gives an unbound pod its node, once.

use drover_api::{
    kinds::{self, Kind},
    object::{at, metadata_mut, str_at},
    status::ApiError,
};
use serde_json::{Map, Value, json};

use super::{
    Registry, WriteOptions, format_time,
    strategy::stale,
    write::{Change, TRIES, Target, Written, broken, unversioned},
};
use crate::{admission::Effects, cache::Object};

/// The parts of a Binding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bind {
    /// The node.
    pub node: String,
    /// Only if the pod has this uid; `""` for any.
    pub uid: String,
    /// Added to the pod.
    pub annotations: Map<String, Value>,
    /// Added to the pod.
    pub labels: Map<String, Value>,
}

impl Registry {
    /// Binds a pod to a node.
    ///
    /// # Errors
    /// 404, 409 when the pod has a node already or is being deleted, 400 without a node, or the store's error.
    pub async fn bind(
        &self,
        (namespace, name): (&str, &str),
        bind: &Bind,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        let kind = pods()?;
        let target = Target { kind, namespace, name };
        let mut fresh = false;
        for _ in 0..TRIES {
            let current = self.current(target, fresh).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
            let now = format_time(self.environment().now());
            let bound = match plan_bind(kind, &current.to_value(), bind, &now) {
                Ok(bound) => unversioned(bound),
                Err(_) if !fresh => {
                    fresh = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if options.dry_run {
                return Ok(());
            }
            let (_, stored) = Object::encode(kind, 0, &bound).map_err(|error| broken(&error))?;
            match self.commit(target, current.revision, Change::Put(&stored), Effects::default()).await? {
                Written::Committed(_) => return Ok(()),
                Written::Changed | Written::Outdated => fresh = true,
            }
        }
        Err(stale(kind, name))
    }
}

pub(super) fn pods() -> Result<&'static Kind, ApiError> {
    kinds::by_resource("", "v1", "pods").ok_or_else(|| ApiError::internal("pods are not served"))
}

fn plan_bind(kind: &Kind, pod: &Value, bind: &Bind, now: &str) -> Result<Value, ApiError> {
    let name = str_at(pod, &["metadata", "name"]);
    if bind.node.is_empty() {
        return Err(ApiError::bad_request("Binding.target.name is required"));
    }
    let uid = str_at(pod, &["metadata", "uid"]);
    if !bind.uid.is_empty() && bind.uid != uid {
        let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {uid}", bind.uid);
        return Err(ApiError::conflict(kind, name, &why));
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        return Err(ApiError::conflict(
            kind,
            name,
            &format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    let holder = str_at(pod, &["spec", "nodeName"]);
    if !holder.is_empty() && !drover_api::mutants::active("S10-binds-twice") {
        return Err(ApiError::conflict(kind, name, &format!("pod {name} is already assigned to node {holder:?}")));
    }
    let mut bound = pod.clone();
    bound["spec"]["nodeName"] = bind.node.clone().into();
    for (field, added) in [("annotations", &bind.annotations), ("labels", &bind.labels)] {
        if added.is_empty() {
            continue;
        }
        let metadata = metadata_mut(&mut bound);
        let place = metadata.entry(field).or_insert_with(|| json!({}));
        for (key, value) in added {
            place[key] = value.clone();
        }
    }
    set_condition(
        &mut bound,
        &json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
    );
    Ok(bound)
}

/// Replaces the condition of the same type, or adds it.
pub(super) fn set_condition(object: &mut Value, condition: &Value) {
    let place = &mut object["status"]["conditions"];
    if !place.is_array() {
        *place = json!([]);
    }
    let Some(conditions) = place.as_array_mut() else { return };
    match conditions.iter_mut().find(|found| found["type"] == condition["type"]) {
        Some(found) => *found = condition.clone(),
        None => conditions.push(condition.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pod: &Value, bind: &Bind, expected: Result<&str, &str>) {
        let kind = crate::registry::testing::kind("", "pods");
        let result = plan_bind(kind, pod, bind, "now").map_err(|error| error.message);
        let told = result.as_ref().map(|pod| str_at(pod, &["spec", "nodeName"])).map_err(String::as_str);
        assert_eq!(told, expected);
    }

    #[test]
    fn a_pod_is_bound_once_and_never_while_it_leaves() {
        let to = |node: &str| Bind { node: node.to_owned(), ..Bind::default() };
        let free = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}});
        check(&free, &to("n"), Ok("n"));
        check(&free, &to(""), Err("Binding.target.name is required"));
        let taken = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "m"}});
        check(
            &taken,
            &to("n"),
            Err("Operation cannot be fulfilled on pods \"p\": pod p is already assigned to node \"m\""),
        );
        let leaving = json!({"metadata": {"name": "p", "deletionTimestamp": "t"}, "spec": {}});
        check(
            &leaving,
            &to("n"),
            Err("Operation cannot be fulfilled on pods \"p\": pod p is being deleted, cannot be assigned to a host"),
        );
        let other = Bind { uid: "v".to_owned(), ..to("n") };
        check(
            &free,
            &other,
            Err(
                "Operation cannot be fulfilled on pods \"p\": Precondition failed: UID in precondition: v, UID in object meta: u",
            ),
        );
    }

    #[test]
    fn binding_states_that_the_pod_is_scheduled_and_carries_annotations() {
        let kind = crate::registry::testing::kind("", "pods");
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False"}
        ]}});
        let annotations = Map::from_iter([("a".to_owned(), json!("b"))]);
        let bind = Bind { node: "n".to_owned(), annotations, ..Bind::default() };
        let bound = plan_bind(kind, &pod, &bind, "now").expect("free");
        assert_eq!(bound["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(bound["status"]["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(bound["status"]["conditions"][0]["status"], "True");
    }
}
