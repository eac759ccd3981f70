//! Pods get the number of their priority class; there is at most one default class.

use drover_api::{
    object::{at, str_at},
    status::ApiError,
};
use serde_json::Value;

use super::{Effects, Operation, Request, Settings};

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";
/// Classes that exist even before their objects do, so that nothing waits for them at start.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPT: &str = "PreemptLowerPriority";

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.operation == Operation::Create && request.is_main("", "Pod") {
        return give_priority(request, object);
    }
    if request.operation != Operation::Delete && request.is_main(GROUP, "PriorityClass") {
        return single_default(request, object);
    }
    Ok(())
}

struct Class {
    name: String,
    value: i64,
    preemption: String,
}

fn give_priority(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::forbidden(request.kind, request.name, why));
    let wanted = str_at(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if wanted.is_empty() { default_class(request) } else { find(request, &wanted) };
    let Some(class) = class else {
        return refuse(&format!("no PriorityClass with name {wanted} was found"));
    };
    let stated = at(pod, &["spec", "priority"]).and_then(Value::as_i64);
    if let Some(stated) = stated.filter(|stated| *stated != class.value) {
        return refuse(&format!(
            "the integer value of priority ({stated}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.value
        ));
    }
    let policy = str_at(pod, &["spec", "preemptionPolicy"]);
    if !policy.is_empty() && policy != class.preemption {
        return refuse(&format!(
            "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.preemption
        ));
    }
    if !class.name.is_empty() {
        pod["spec"]["priorityClassName"] = class.name.into();
    }
    pod["spec"]["priority"] = class.value.into();
    pod["spec"]["preemptionPolicy"] = class.preemption.into();
    Ok(())
}

fn find(request: &Request<'_>, name: &str) -> Option<Class> {
    let stored = request.world.get(GROUP, PLURAL, "", name).map(|object| class(&object.to_value()));
    stored.or_else(|| {
        let (name, value) = SYSTEM.iter().find(|(system, _)| *system == name)?;
        Some(Class { name: (*name).to_owned(), value: *value, preemption: PREEMPT.to_owned() })
    })
}

/// The default class, or priority 0. Of several defaults (which admission prevents) the lowest counts.
fn default_class(request: &Request<'_>) -> Option<Class> {
    let classes = request.world.list(GROUP, PLURAL, "").into_iter().map(|object| object.to_value());
    let default = classes.filter(is_default).map(|value| class(&value)).min_by_key(|class| class.value);
    default.or_else(|| Some(Class { name: String::new(), value: 0, preemption: PREEMPT.to_owned() }))
}

fn class(value: &Value) -> Class {
    let preemption = str_at(value, &["preemptionPolicy"]);
    Class {
        name: str_at(value, &["metadata", "name"]).to_owned(),
        value: value.get("value").and_then(Value::as_i64).unwrap_or(0),
        preemption: if preemption.is_empty() { PREEMPT } else { preemption }.to_owned(),
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault").and_then(Value::as_bool).unwrap_or(false)
}

fn single_default(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    if !is_default(object) {
        return Ok(());
    }
    let others = request.world.list(GROUP, PLURAL, "").into_iter().map(|other| other.to_value());
    let mut defaults = others.filter(is_default).map(|other| str_at(&other, &["metadata", "name"]).to_owned());
    match defaults.find(|other| other != request.name) {
        Some(other) => {
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(ApiError::forbidden(request.kind, request.name, &why))
        }
        None => Ok(()),
    }
}
