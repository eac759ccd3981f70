//! Events, in both of their shapes.

use serde_json::Value;

use super::{
    Column, age,
    column::{NAME, Printer, count, text, text_or, wide},
};
use crate::object::{self, at, str_at};

pub(super) const EVENT: Printer = Printer {
    columns: &[
        text("Last Seen", "When it happened last."),
        text("Type", "Normal, or a warning."),
        text("Reason", "What happened, in one word."),
        text("Object", "What it happened to."),
        wide("Subobject", "Which part of the object."),
        wide("Source", "Who reported it."),
        text("Message", "What happened, in a sentence."),
        wide("First Seen", "When it happened first."),
        Column { kind: "integer", ..wide("Count", "How often it happened.") },
        Column { priority: 1, ..NAME },
    ],
    cells,
};

fn cells(event: &Value, now_secs: i64) -> Vec<Value> {
    let time = |paths: &[&[&str]]| paths.iter().map(|path| str_at(event, path)).find(|time| !time.is_empty());
    let first = time(&[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]).unwrap_or_default();
    let last =
        time(&[&["series", "lastObservedTime"], &["lastTimestamp"], &["deprecatedLastTimestamp"]]).unwrap_or(first);
    let times = match at(event, &["series"]) {
        Some(series) if series.is_object() => count(series, &["count"]),
        _ => count(event, &["count"]).max(count(event, &["deprecatedCount"])).max(1),
    };
    let message = text_or(event, &["message"], str_at(event, &["note"])).trim();
    vec![
        age::since(last, now_secs).into(),
        str_at(event, &["type"]).into(),
        str_at(event, &["reason"]).into(),
        target(event).into(),
        about(event, "fieldPath").into(),
        source(event).into(),
        message.into(),
        age::since(first, now_secs).into(),
        times.into(),
        object::name(event).into(),
    ]
}

fn about<'a>(event: &'a Value, field: &str) -> &'a str {
    text_or(event, &["involvedObject", field], str_at(event, &["regarding", field]))
}

fn target(event: &Value) -> String {
    let kind = about(event, "kind").to_lowercase();
    match about(event, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let first = |paths: [&[&str]; 4]| paths.map(|path| str_at(event, path)).into_iter().find(|text| !text.is_empty());
    let component = first([
        &["source", "component"],
        &["deprecatedSource", "component"],
        &["reportingComponent"],
        &["reportingController"],
    ]);
    let instance = first([&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"], &[]]);
    match (component.unwrap_or_default(), instance.unwrap_or_default()) {
        (component, "") => component.to_owned(),
        (component, instance) => format!("{component}, {instance}"),
    }
}
