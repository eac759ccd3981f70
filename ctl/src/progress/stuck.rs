//! One sentence about what keeps a target from being done.

use std::collections::BTreeMap;

use drover_api::object;
use serde_json::Value;

use super::{State, Target, World, state, tree::revision};
use crate::explain::{self, Reason};

/// Says what the first target that is not done is stuck on; `None` when nothing but time is needed.
pub(crate) fn stuck(world: &World, targets: &[Target]) -> Option<String> {
    let events = world.events();
    targets.iter().find_map(|target| {
        let found = world.get(target)?;
        if matches!(state(found, target.generation), State::Done(_)) {
            return None;
        }
        let reason = reason(world, &events, target, found)?;
        let hint = reason.hint.map_or(String::new(), |hint| format!(" (try: {hint})"));
        Some(format!("{} is stuck: {}{hint}", target.label(), reason.what))
    })
}

fn reason(world: &World, events: &[Value], target: &Target, found: &Value) -> Option<Reason> {
    match target.kind.as_str() {
        "Pod" => explain::pod(found, events).filter(|reason| reason.is_problem),
        "Deployment" => {
            let newest = world.owned("ReplicaSet", object::uid(found)).max_by_key(|set| revision(set));
            let pods = newest.and_then(|set| of_pods(world, events, object::uid(set)));
            let set = newest.and_then(explain::workload);
            pods.or(set).or_else(|| explain::workload(found))
        }
        _ => of_pods(world, events, object::uid(found)).or_else(|| explain::workload(found)),
    }
}

/// The problem that most pods have, with one of them as the example.
fn of_pods(world: &World, events: &[Value], owner: &str) -> Option<Reason> {
    let mut problems: BTreeMap<String, (usize, &Value, Reason)> = BTreeMap::new();
    for pod in world.owned("Pod", owner) {
        if let Some(reason) = explain::pod(pod, events).filter(|reason| reason.is_problem) {
            problems.entry(reason.what.clone()).or_insert((0, pod, reason)).0 += 1;
        }
    }
    let (count, pod, reason) =
        problems.into_values().max_by_key(|(count, pod, _)| (*count, object::name(pod).to_owned()))?;
    let who = match count {
        1 => format!("pod {}", object::name(pod)),
        _ => format!("{count} pods such as {}", object::name(pod)),
    };
    Some(Reason { what: format!("{who}: {}", reason.what), ..reason })
}
