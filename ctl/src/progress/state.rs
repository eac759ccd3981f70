//! How far an object is.

use drover_api::object::{self, str_at};
use serde_json::Value;

use crate::explain;

/// How far an object is, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything that was asked for is there.
    Done(String),
    /// It is being worked on.
    Waiting(String),
    /// It will not get there by waiting.
    Failed(String),
}

impl State {
    /// The words alone.
    pub(crate) fn words(&self) -> &str {
        match self {
            State::Done(words) | State::Waiting(words) | State::Failed(words) => words,
        }
    }
}

/// Says how far an object is that was written with a generation. Kinds without a notion of progress are done at once.
pub(crate) fn state(found: &Value, generation: i64) -> State {
    match str_at(found, &["kind"]) {
        "Deployment" => unless_unseen(found, generation, deployment),
        "ReplicaSet" => unless_unseen(found, generation, replica_set),
        "StatefulSet" | "DaemonSet" => unless_unseen(found, generation, numbered),
        "Pod" => pod(found),
        "Namespace" if str_at(found, &["status", "phase"]) == "Terminating" => {
            State::Failed("is being deleted".to_owned())
        }
        _ => State::Done("applied".to_owned()),
    }
}

fn unless_unseen(found: &Value, generation: i64, state: fn(&Value) -> State) -> State {
    let written = number(found, &["metadata", "generation"]).max(generation);
    if number(found, &["status", "observedGeneration"]) < written {
        return State::Waiting("waits for its controller".to_owned());
    }
    state(found)
}

fn deployment(found: &Value) -> State {
    let wanted = object::at(found, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1);
    let total = number(found, &["status", "replicas"]);
    let updated = number(found, &["status", "updatedReplicas"]);
    let available = number(found, &["status", "availableReplicas"]);
    let words = if updated < wanted {
        format!("{updated} of {wanted} updated")
    } else if total > updated {
        format!("{updated} of {wanted} updated, {} old to go", total - updated)
    } else if available < updated {
        format!("{available} of {wanted} available")
    } else {
        return State::Done(format!("{available} of {wanted} available"));
    };
    if object::at(found, &["spec", "paused"]).and_then(Value::as_bool).unwrap_or(false) {
        return State::Done(format!("paused, {words}"));
    }
    match explain::workload(found) {
        Some(reason) if reason.what.contains("deadline") => State::Failed(format!("{words}: {}", reason.what)),
        Some(_) | None => State::Waiting(words),
    }
}

fn replica_set(found: &Value) -> State {
    let wanted = object::at(found, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1);
    let available = number(found, &["status", "availableReplicas"]);
    let words = format!("{available} of {wanted} available");
    if available == wanted && number(found, &["status", "replicas"]) == wanted {
        State::Done(words)
    } else {
        State::Waiting(words)
    }
}

/// Kinds that count with other names: DaemonSet and StatefulSet.
fn numbered(found: &Value) -> State {
    let desired = object::at(found, &["status", "desiredNumberScheduled"]).and_then(Value::as_i64);
    let wanted =
        desired.unwrap_or_else(|| object::at(found, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1));
    let updated =
        number(found, &["status", "updatedNumberScheduled"]).max(number(found, &["status", "updatedReplicas"]));
    let available = number(found, &["status", "numberAvailable"]).max(number(found, &["status", "availableReplicas"]));
    let words = format!("{updated} of {wanted} updated, {available} available");
    if updated >= wanted && available >= wanted { State::Done(words) } else { State::Waiting(words) }
}

fn pod(found: &Value) -> State {
    match str_at(found, &["status", "phase"]) {
        "Succeeded" => State::Done("succeeded".to_owned()),
        "Failed" => State::Failed(explain::pod(found, &[]).map_or_else(|| "failed".to_owned(), |reason| reason.what)),
        _ => match explain::step(found, &[]) {
            ready if ready == "ready" => State::Done(ready),
            other => State::Waiting(other),
        },
    }
}

fn number(found: &Value, path: &[&str]) -> i64 {
    object::at(found, path).and_then(Value::as_i64).unwrap_or(0)
}
