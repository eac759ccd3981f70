//! What a pod is waiting for.

use drover_api::object::{self, str_at};
use serde_json::Value;

use super::{
    Reason, deletion,
    events::{about, message, newest, one_line},
};

/// Says what keeps a pod from being ready; `None` when nothing does, or when it has done its work.
pub(crate) fn pod(pod: &Value, events: &[Value]) -> Option<Reason> {
    if let Some(waits) = deletion(pod) {
        return Some(Reason::waiting(format!("is terminating{waits}")));
    }
    match str_at(pod, &["status", "phase"]) {
        "Succeeded" => return None,
        "Failed" => return Some(failed(pod)),
        _ => {}
    }
    if str_at(pod, &["spec", "nodeName"]).is_empty() {
        return Some(unscheduled(pod, events));
    }
    let statuses = || statuses(pod, "initContainerStatuses").chain(statuses(pod, "containerStatuses"));
    let waiting = statuses().find_map(|status| waiting(pod, status, events));
    waiting.or_else(|| not_started(pod, events)).or_else(|| not_ready(pod, events))
}

/// The pod's state in a few words, for a line of a list: `pulling image`, `startup probe`, `ready`.
pub(crate) fn step(found: &Value, events: &[Value]) -> String {
    if !str_at(found, &["metadata", "deletionTimestamp"]).is_empty() {
        return "terminating".to_owned();
    }
    if str_at(found, &["spec", "nodeName"]).is_empty() {
        return "waiting for a node".to_owned();
    }
    if condition(found, "Ready").is_some_and(|ready| ready["status"] == "True") {
        return "ready".to_owned();
    }
    match pod(found, events) {
        Some(reason) => reason.what,
        None => drover_api::table::pod_status(found).reason.to_lowercase(),
    }
}

fn failed(pod: &Value) -> Reason {
    let reason = str_at(pod, &["status", "reason"]);
    let ended = statuses(pod, "initContainerStatuses").chain(statuses(pod, "containerStatuses")).find_map(|status| {
        let terminated = object::at(status, &["state", "terminated"])?;
        let code = terminated["exitCode"].as_i64().filter(|code| *code != 0)?;
        Some((str_at(status, &["name"]).to_owned(), code, str_at(terminated, &["reason"]).to_owned()))
    });
    match ended {
        Some((name, code, why)) => {
            Reason::problem(format!("failed: container \"{name}\" ended with exit code {code} ({why})"))
                .hint(format!("droverctl logs {} -c {name}", object::name(pod)))
        }
        None => Reason::problem(one_line(&format!("failed: {reason} {}", str_at(pod, &["status", "message"])))),
    }
}

fn unscheduled(pod: &Value, events: &[Value]) -> Reason {
    let gates = object::at(pod, &["spec", "schedulingGates"]).and_then(Value::as_array);
    if let Some(gate) = gates.and_then(|gates| gates.first()) {
        return Reason::waiting(format!("is held back by scheduling gate {}", str_at(gate, &["name"])));
    }
    let told = condition(pod, "PodScheduled")
        .filter(|one| one["status"] == "False")
        .map(|one| one_line(str_at(one, &["message"])));
    let event = || newest(events, object::uid(pod), &["FailedScheduling"]).map(message);
    match told.filter(|told| !told.is_empty()).or_else(event) {
        Some(why) => {
            Reason::problem(format!("has no node: {why}")).hint(format!("droverctl why pod/{}", object::name(pod)))
        }
        None => Reason::waiting("waits for the scheduler"),
    }
}

fn waiting(pod: &Value, status: &Value, events: &[Value]) -> Option<Reason> {
    let state = object::at(status, &["state", "waiting"])?;
    let (name, reason) = (str_at(status, &["name"]), str_at(state, &["reason"]));
    let said = one_line(str_at(state, &["message"]));
    let because = if said.is_empty() { String::new() } else { format!(": {said}") };
    let image = str_at(status, &["image"]);
    Some(match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "RegistryUnavailable" => {
            let because = pull_error(pod, image, &said, events).map_or(String::new(), |why| format!(": {why}"));
            Reason::problem(format!("container \"{name}\" cannot get image \"{image}\"{because}"))
                .hint("check the name and tag of the image, and imagePullSecrets for a private registry")
        }
        "CrashLoopBackOff" => crashing(pod, status, name),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Reason::problem(format!("container \"{name}\" cannot be created{because}"))
        }
        // The state says nothing yet: events know what is being done.
        "ContainerCreating" | "PodInitializing" | "" => return None,
        other => Reason::problem(format!("container \"{name}\" waits: {other}{because}")),
    })
}

/// Why a pull failed, without the words around it that say that it did.
fn pull_error(pod: &Value, image: &str, said: &str, events: &[Value]) -> Option<String> {
    let strip = |text: &str| {
        let mut text = text.to_owned();
        for start in [format!("Back-off pulling image \"{image}\""), format!("failed to pull image \"{image}\"")] {
            let has_start = text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(&start));
            if has_start {
                text = text[start.len()..].trim_start_matches([':', ' ']).to_owned();
            }
        }
        text
    };
    let known = Some(strip(said)).filter(|why| !why.is_empty());
    known.or_else(|| {
        let failed = about(events, object::uid(pod)).into_iter().rev().filter(|event| event["reason"] == "Failed");
        failed.map(|event| strip(&message(event))).find(|why| !why.is_empty() && !why.starts_with("Error: "))
    })
}

fn crashing(pod: &Value, status: &Value, name: &str) -> Reason {
    let last = object::at(status, &["lastState", "terminated"]);
    let code = last.and_then(|last| last["exitCode"].as_i64()).unwrap_or(0);
    let reason = last.map_or("", |last| str_at(last, &["reason"]));
    if matches!(reason, "ContainerCannotRun" | "StartError") {
        let said = last.map_or(String::new(), |last| one_line(str_at(last, &["message"])));
        // What the layers of the engine put around the cause helps nobody.
        let said = said.rsplit_once("unable to start container process: ").map_or(said.as_str(), |(_, cause)| cause);
        let said = said.trim_end_matches(": unknown");
        return Reason::problem(format!("container \"{name}\" cannot be started: {said}"))
            .hint("check the command and the image");
    }
    let why = Some(reason).filter(|why| !why.is_empty() && *why != "Error");
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    let restarts = status["restartCount"].as_i64().unwrap_or(0);
    Reason::problem(format!("container \"{name}\" keeps ending: exit code {code}{why}, restarted {restarts} times"))
        .hint(format!("droverctl logs {} -c {name} --previous", object::name(pod)))
}

fn not_started(pod: &Value, events: &[Value]) -> Option<Reason> {
    let started = |status: &Value| object::at(status, &["state", "waiting"]).is_none();
    let all_started =
        statuses(pod, "containerStatuses").all(started) && statuses(pod, "containerStatuses").next().is_some();
    if all_started {
        return None;
    }
    let uid = object::uid(pod);
    if let Some(init) =
        statuses(pod, "initContainerStatuses").find(|status| object::at(status, &["state", "running"]).is_some())
        && !init["started"].as_bool().unwrap_or(false)
    {
        return Some(Reason::waiting(format!("init container \"{}\" runs", str_at(init, &["name"]))));
    }
    let reasons = [
        "Pulling",
        "Pulled",
        "Created",
        "Started",
        "FailedMount",
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "Failed",
    ];
    let Some(event) = newest(events, uid, &reasons) else {
        return Some(Reason::waiting("containers are being created"));
    };
    Some(match str_at(event, &["reason"]) {
        "Pulling" => Reason::waiting(lower_first(&message(event))),
        "FailedMount" | "FailedAttachVolume" => {
            Reason::problem(format!("a volume cannot be mounted: {}", message(event)))
        }
        "FailedCreatePodSandBox" | "Failed" => Reason::problem(message(event)),
        _ => Reason::waiting("containers are starting"),
    })
}

fn not_ready(pod: &Value, events: &[Value]) -> Option<Reason> {
    let ready = condition(pod, "Ready");
    if ready.is_some_and(|ready| ready["status"] == "True") {
        return None;
    }
    let reason = ready.map_or("", |ready| str_at(ready, &["reason"]));
    match reason {
        "AwaitingRoutes" => return Some(Reason::waiting("is ready and waits until every node routes to it")),
        "ReadinessGatesNotReady" => {
            let said = ready.map_or("", |ready| str_at(ready, &["message"]));
            return Some(Reason::waiting(format!("waits for a readiness gate: {}", one_line(said))));
        }
        _ => {}
    }
    let Some(status) = statuses(pod, "containerStatuses").find(|status| status["ready"] != true) else {
        return Some(Reason::waiting("containers are being created"));
    };
    let name = str_at(status, &["name"]);
    if let Some(event) = newest(events, object::uid(pod), &["Unhealthy"]) {
        let what = format!("container \"{name}\" is not ready: {}", lower_first(&message(event)));
        return Some(Reason::problem(what).hint(format!("droverctl logs {} -c {name}", object::name(pod))));
    }
    let probe = if status["started"] == true { "readiness" } else { "startup" };
    Some(match object::at(status, &["state", "terminated"]) {
        Some(ended) => {
            let code = ended["exitCode"].as_i64().unwrap_or(0);
            Reason::waiting(format!("container \"{name}\" ended with exit code {code} and will be restarted"))
        }
        None => Reason::waiting(format!("container \"{name}\" waits for its {probe} probe")),
    })
}

fn statuses<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    object::at(pod, &["status", field]).and_then(Value::as_array).into_iter().flatten()
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object::at(pod, &["status", "conditions"]).and_then(Value::as_array)?;
    conditions.iter().find(|one| str_at(one, &["type"]) == kind)
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
