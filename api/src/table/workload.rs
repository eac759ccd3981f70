//! Deployments, ReplicaSets, ControllerRevisions and PodDisruptionBudgets.

use serde_json::Value;

use super::{
    age,
    column::{AGE, NAME, Printer, count, items, number, text, wide},
};
use crate::{
    labels::LabelSelector,
    object::{self, at, str_at},
};

pub(super) const DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        text("Ready", "How many of the wanted pods are ready."),
        number("Up-to-date", "How many pods run the present template."),
        number("Available", "How many pods have been ready for long enough."),
        AGE,
        wide("Containers", "The names of the containers in the template."),
        wide("Images", "The images of the containers in the template."),
        wide("Selector", "The labels by which the pods are found."),
    ],
    cells: deployment,
};

pub(super) const REPLICA_SET: Printer = Printer {
    columns: &[
        NAME,
        number("Desired", "How many pods are wanted."),
        number("Current", "How many pods there are."),
        number("Ready", "How many pods are ready."),
        AGE,
        wide("Containers", "The names of the containers in the template."),
        wide("Images", "The images of the containers in the template."),
        wide("Selector", "The labels by which the pods are found."),
    ],
    cells: replica_set,
};

pub(super) const CONTROLLER_REVISION: Printer = Printer {
    columns: &[
        NAME,
        text("Controller", "The object whose history this is."),
        number("Revision", "The place of this state in the history."),
        AGE,
    ],
    cells: controller_revision,
};

pub(super) const DISRUPTION_BUDGET: Printer = Printer {
    columns: &[
        NAME,
        text("Min Available", "How many pods must stay available."),
        text("Max Unavailable", "How many pods may be unavailable."),
        number("Allowed Disruptions", "How many pods may be evicted now."),
        AGE,
    ],
    cells: disruption_budget,
};

fn deployment(object: &Value, now_secs: i64) -> Vec<Value> {
    let ready = count(object, &["status", "readyReplicas"]);
    let mut cells = vec![
        object::name(object).into(),
        format!("{ready}/{}", count(object, &["spec", "replicas"])).into(),
        count(object, &["status", "updatedReplicas"]).into(),
        count(object, &["status", "availableReplicas"]).into(),
        age::of(object, now_secs).into(),
    ];
    cells.extend(template(object));
    cells
}

fn replica_set(object: &Value, now_secs: i64) -> Vec<Value> {
    let mut cells = vec![
        object::name(object).into(),
        count(object, &["spec", "replicas"]).into(),
        count(object, &["status", "replicas"]).into(),
        count(object, &["status", "readyReplicas"]).into(),
        age::of(object, now_secs).into(),
    ];
    cells.extend(template(object));
    cells
}

/// Makes the cells of names, images and selector.
fn template(object: &Value) -> [Value; 3] {
    let containers = items(object, &["spec", "template", "spec", "containers"]);
    let joined = |field: &str| {
        let texts: Vec<&str> = containers.iter().map(|container| str_at(container, &[field])).collect();
        texts.join(",")
    };
    let selector = LabelSelector::from_object(at(object, &["spec", "selector"]).unwrap_or(&Value::Null));
    let selector = match selector {
        Ok(selector) if selector.is_empty() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    };
    [joined("name").into(), joined("image").into(), selector.into()]
}

fn controller_revision(object: &Value, now_secs: i64) -> Vec<Value> {
    let owners = items(object, &["metadata", "ownerReferences"]);
    let controller = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    let controller = controller.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let kind = str_at(owner, &["kind"]).to_lowercase();
            let group = str_at(owner, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", str_at(owner, &["name"]))
        },
    );
    vec![
        object::name(object).into(),
        controller.into(),
        count(object, &["revision"]).into(),
        age::of(object, now_secs).into(),
    ]
}

fn disruption_budget(object: &Value, now_secs: i64) -> Vec<Value> {
    let amount = |field: &str| match at(object, &["spec", field]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "N/A".to_owned(),
    };
    vec![
        object::name(object).into(),
        amount("minAvailable").into(),
        amount("maxUnavailable").into(),
        count(object, &["status", "disruptionsAllowed"]).into(),
        age::of(object, now_secs).into(),
    ]
}
