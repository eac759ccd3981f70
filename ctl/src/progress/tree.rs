//! Deployment → ReplicaSet → Pods as lines.

use drover_api::object::{self, str_at};
use serde_json::Value;

use super::{State, Target, World, state};
use crate::{
    explain,
    output::{Style, Text},
};

/// Pods of one ReplicaSet that are drawn; those that are not ready come first.
const PODS_MAX: usize = 12;

/// Draws the targets that have a notion of progress, each with what it owns.
pub(crate) fn tree(world: &World, targets: &[Target]) -> Vec<Text> {
    let events = world.events();
    let mut lines = Vec::new();
    for target in targets {
        let Some(found) = world.get(target) else {
            lines.push(Text::styled(Style::Bold, target.label()).with(Style::Dim, "  waits to be seen"));
            continue;
        };
        let now = state(found, target.generation);
        lines.push(Text::styled(Style::Bold, target.label()).plain("  ").with(style(&now), now.words()));
        match target.kind.as_str() {
            "Deployment" => replica_sets(world, &events, found, &mut lines),
            "Pod" => {}
            _ => pods(world, &events, object::uid(found), "", &mut lines),
        }
    }
    lines
}

fn style(state: &State) -> Style {
    match state {
        State::Done(_) => Style::Green,
        State::Waiting(_) => Style::Yellow,
        State::Failed(_) => Style::Red,
    }
}

fn replica_sets(world: &World, events: &[Value], deployment: &Value, lines: &mut Vec<Text>) {
    let mut sets: Vec<&Value> = world.owned("ReplicaSet", object::uid(deployment)).collect();
    sets.sort_by_key(|set| std::cmp::Reverse(revision(set)));
    let newest = sets.first().map(|set| object::uid(set));
    // Old ones are of interest while they still have pods.
    sets.retain(|set| Some(object::uid(set)) == newest || world.owned("Pod", object::uid(set)).next().is_some());
    for (index, set) in sets.iter().enumerate() {
        let last = index + 1 == sets.len();
        let count = |path: &[&str]| object::at(set, path).and_then(Value::as_i64).unwrap_or(0);
        let (ready, wanted) = (count(&["status", "readyReplicas"]), count(&["spec", "replicas"]));
        let age = if Some(object::uid(set)) == newest { "new" } else { "old" };
        let line = Text::styled(Style::Dim, if last { "└─ " } else { "├─ " })
            .plain(format!("replicaset/{}", object::name(set)))
            .with(Style::Dim, format!("  {age}, {ready} of {wanted} ready"));
        lines.push(line);
        pods(world, events, object::uid(set), if last { "   " } else { "│  " }, lines);
    }
}

fn pods(world: &World, events: &[Value], owner: &str, indent: &str, lines: &mut Vec<Text>) {
    let steps = world.owned("Pod", owner).map(|pod| (pod, explain::step(pod, events)));
    let mut steps: Vec<(&Value, String)> = steps.collect();
    steps.sort_by_key(|(pod, step)| (step == "ready", object::name(pod).to_owned()));
    let hidden = steps.len().saturating_sub(PODS_MAX);
    let width = steps.iter().take(PODS_MAX).map(|(pod, _)| object::name(pod).len()).max().unwrap_or(0);
    let shown = steps.len() - hidden;
    for (index, (pod, step)) in steps.iter().take(PODS_MAX).enumerate() {
        let corner = if index + 1 == shown && hidden == 0 { "└─ " } else { "├─ " };
        let node = str_at(pod, &["spec", "nodeName"]);
        let style = match (step.as_str(), explain::pod(pod, events)) {
            ("ready", _) => Style::Green,
            (_, Some(reason)) if reason.is_problem => Style::Red,
            _ => Style::Yellow,
        };
        let mut line = Text::styled(Style::Dim, format!("{indent}{corner}"))
            .plain(format!("{:width$}  ", object::name(pod)))
            .with(style, step.clone());
        if !node.is_empty() {
            line = line.with(Style::Dim, format!("  on {node}"));
        }
        lines.push(line);
    }
    if hidden > 0 {
        lines.push(Text::styled(Style::Dim, format!("{indent}└─ and {hidden} more")));
    }
}

/// The revision of a ReplicaSet; that of a Deployment's newest is the highest.
pub(super) fn revision(set: &Value) -> i64 {
    let noted = object::at(set, &["metadata", "annotations", "deployment.kubernetes.io/revision"]);
    noted.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0)
}
