//! Ingresses and IngressClasses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    age,
    column::{AGE, NAME, Printer, items, text, text_or},
};
use crate::object::{self, at, str_at};

/// Most hosts that a cell lists before it only counts.
const LISTED_MAX: usize = 3;
/// Longest list of addresses that is shown whole.
const ADDRESSES_LENGTH_MAX: usize = 16;

pub(super) const INGRESS: Printer = Printer {
    columns: &[
        NAME,
        text("Class", "Who serves it."),
        text("Hosts", "The hosts that it is for."),
        text("Address", "Where it is served."),
        text("Ports", "The ports on which it is served."),
        AGE,
    ],
    cells: ingress,
};

pub(super) const CLASS: Printer = Printer {
    columns: &[
        NAME,
        text("Controller", "The controller that serves Ingresses of the class."),
        text("Parameters", "Where the class is described further."),
        AGE,
    ],
    cells: class,
};

fn ingress(object: &Value, now_secs: i64) -> Vec<Value> {
    let ports = if items(object, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        object::name(object).into(),
        text_or(object, &["spec", "ingressClassName"], "<none>").into(),
        hosts(object).into(),
        addresses(object).into(),
        ports.into(),
        age::of(object, now_secs).into(),
    ]
}

fn hosts(object: &Value) -> String {
    let hosts: Vec<&str> = items(object, &["spec", "rules"])
        .iter()
        .map(|rule| str_at(rule, &["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    match hosts.len() {
        0 => "*".to_owned(),
        count if count > LISTED_MAX => {
            format!("{} + {} more...", hosts[..LISTED_MAX].join(","), count - LISTED_MAX)
        }
        _ => hosts.join(","),
    }
}

fn addresses(object: &Value) -> String {
    let points = items(object, &["status", "loadBalancer", "ingress"]).iter();
    let all: BTreeSet<&str> = points
        .map(|point| text_or(point, &["ip"], str_at(point, &["hostname"])))
        .filter(|address| !address.is_empty())
        .collect();
    let text = all.into_iter().collect::<Vec<_>>().join(",");
    match text.get(..ADDRESSES_LENGTH_MAX - 3) {
        Some(start) if text.len() > ADDRESSES_LENGTH_MAX => format!("{start}..."),
        _ => text,
    }
}

fn class(object: &Value, now_secs: i64) -> Vec<Value> {
    let parameters = at(object, &["spec", "parameters"]).filter(|parameters| !parameters.is_null()).map(|parameters| {
        let group = str_at(parameters, &["apiGroup"]);
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", str_at(parameters, &["kind"]), str_at(parameters, &["name"]))
    });
    vec![
        object::name(object).into(),
        str_at(object, &["spec", "controller"]).into(),
        parameters.as_deref().unwrap_or("<none>").into(),
        age::of(object, now_secs).into(),
    ]
}
