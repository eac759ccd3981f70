//! `why`: where a pod is and why, and what it waits for now.

use drover_api::object::{self, str_at};
use serde_json::Value;

use super::pods;
use crate::{
    cli::Context,
    cluster::{Cluster, Query},
    completion,
    explain::{self, Reason},
    failure::Failure,
    output::{Style, Text},
    progress::{self, State},
};

/// The reason of the events that carry the scheduler's decisions.
pub(super) const TRACE: &str = "SchedulingTrace";
/// Pods of a workload that are explained one by one; the ready ones are only counted.
const PODS_MAX: usize = 10;

/// Say where a pod is and why, and what it waits for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  droverctl why pod/web-1\n  droverctl why deploy/web")]
pub(crate) struct Args {
    /// A pod, or deploy/NAME
    #[arg(required = true, num_args = 1..=2, value_name = "OBJECT", add = completion::pods_and_workloads())]
    words: Vec<String>,
}

/// Runs `why`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let word = args.words.join("/");
    let found = pods::find(&cluster, &word).await?;
    let is_workload = found.selector.is_some();
    if is_workload {
        workload(&cluster, ctx, &word, found.found.len()).await?;
    }
    let ready = |pod: &&Value| explain::step(pod, &[]) == "ready";
    let (ready, open): (Vec<&Value>, Vec<&Value>) = found.found.iter().partition(ready);
    let shown = if is_workload { open.iter().chain(&ready).take(PODS_MAX) } else { open.iter().chain(&ready).take(1) };
    for pod in shown {
        let query = Query::new().with("fieldSelector", format!("involvedObject.uid={}", object::uid(pod)));
        let collection = cluster.resource("events").await?.collection(Some(object::namespace(pod)));
        let events = cluster.list(&query.on(&collection)).await?;
        explain_pod(pod, &events).into_iter().try_for_each(|line| ctx.output.line(line))?;
    }
    let hidden = found.found.len().saturating_sub(PODS_MAX);
    if is_workload && hidden > 0 {
        ctx.output.line(format!("and {hidden} more pods"))?;
    }
    Ok(0)
}

async fn workload(cluster: &Cluster, ctx: &Context, word: &str, count: usize) -> anyhow::Result<()> {
    let (resource, name) = crate::input::select_one(cluster, &[word.to_owned()], Some("pods")).await?;
    let live = cluster.get(&resource.object(&cluster.namespace, &name)).await?;
    let now = progress::state(&live, 0);
    let style = if matches!(now, State::Done(_)) { Style::Green } else { Style::Yellow };
    ctx.output.line(
        Text::styled(Style::Bold, format!("{}/{name}", resource.singular)).plain(": ").with(style, now.words()),
    )?;
    if let Some(reason) = explain::workload(&live) {
        reason_lines(&reason).into_iter().try_for_each(|line| ctx.output.line(line))?;
    }
    if count == 0 {
        return Err(Failure::new("it has no pods")
            .help(format!("droverctl events --for {}/{name}", resource.singular))
            .into());
    }
    Ok(())
}

/// Everything there is to say about a pod.
fn explain_pod(pod: &Value, events: &[Value]) -> Vec<Text> {
    let mut lines = vec![Text::styled(Style::Bold, format!("pod/{}", object::name(pod)))];
    let trace = explain::newest(events, object::uid(pod), &[TRACE]);
    let trace = trace.and_then(|event| serde_json::from_str(str_at(event, &["message"])).ok());
    lines.extend(placement(pod, trace.as_ref()));
    match explain::pod(pod, events) {
        // The hint to ask here has just been followed.
        Some(reason) if trace_hint(&reason) => lines.extend(reason_lines(&Reason { hint: None, ..reason })),
        Some(reason) => lines.extend(reason_lines(&reason)),
        None => lines.push(Text::new().plain("  now: ").with(Style::Green, explain::step(pod, events))),
    }
    lines
}

fn trace_hint(reason: &Reason) -> bool {
    reason.hint.as_deref().is_some_and(|hint| hint.starts_with("droverctl why"))
}

fn reason_lines(reason: &Reason) -> Vec<Text> {
    let style = if reason.is_problem { Style::Red } else { Style::Yellow };
    let mut lines = vec![Text::new().plain("  now: ").with(style, reason.what.clone())];
    lines.extend(reason.hint.as_ref().map(|hint| Text::styled(Style::Dim, format!("  try: {hint}"))));
    lines
}

/// Where the pod is, and what the scheduler said of every node.
fn placement(pod: &Value, trace: Option<&Value>) -> Vec<Text> {
    let node = str_at(pod, &["spec", "nodeName"]);
    let head = Text::new().plain("  node: ");
    let mut lines =
        vec![if node.is_empty() { head.with(Style::Yellow, "none yet") } else { head.with(Style::Green, node) }];
    let Some(trace) = trace else {
        let why =
            if node.is_empty() { "the scheduler has not decided" } else { "no trace of the decision is kept any more" };
        lines.push(Text::styled(Style::Dim, format!("  why: {why}")));
        return lines;
    };
    let strategy = str_at(trace, &["strategy"]);
    let nodes = trace["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let omitted = trace["omitted"].as_u64().unwrap_or(0);
    let fits = nodes.iter().filter(|one| one["fits"] == true).count();
    let total = nodes.len() as u64 + omitted;
    lines.push(Text::styled(Style::Dim, format!("  why: {fits} of {total} nodes fit, strategy {strategy}")));
    let width = nodes.iter().map(|one| str_at(one, &["node"]).chars().count()).max().unwrap_or(0);
    let chosen = str_at(trace, &["node"]);
    for one in nodes {
        let name = str_at(one, &["node"]);
        let (mark, style) = match (one["fits"] == true, name == chosen && !chosen.is_empty()) {
            (_, true) => ("→", Style::Green),
            (true, false) => ("✓", Style::Plain),
            (false, false) => ("✗", Style::Dim),
        };
        lines.push(Text::styled(style, format!("    {mark} {name:width$}  {}", str_at(one, &["why"]))));
    }
    if omitted > 0 {
        lines.push(Text::styled(Style::Dim, format!("    and {omitted} more nodes")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(pod: &Value, events: &[Value], expected: &Expect) {
        let lines: Vec<String> = explain_pod(pod, events).iter().map(Text::bare).collect();
        expected.assert_eq(&(lines.join("\n") + "\n"));
    }

    fn trace(message: &Value) -> Value {
        json!({"reason": TRACE, "involvedObject": {"uid": "u"}, "message": message.to_string()})
    }

    #[test]
    fn a_placed_pod_shows_every_node_and_why() {
        let pod = json!({"metadata": {"name": "web-1", "uid": "u"}, "spec": {"nodeName": "n1"}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "c", "ready": true, "state": {"running": {}}}]}});
        let decision = json!({"strategy": "spread", "node": "n1", "omitted": 3, "nodes": [
            {"node": "n1", "fits": true, "why": "fewest pods of the ReplicaSet: 0"},
            {"node": "node-2", "fits": true, "why": "1 pod of the ReplicaSet"},
            {"node": "n3", "fits": false, "why": "memory: 512Mi asked, 100Mi free"}]});
        check(
            &pod,
            &[trace(&decision)],
            &expect![[r"
            pod/web-1
              node: n1
              why: 2 of 6 nodes fit, strategy spread
                → n1      fewest pods of the ReplicaSet: 0
                ✓ node-2  1 pod of the ReplicaSet
                ✗ n3      memory: 512Mi asked, 100Mi free
                and 3 more nodes
              now: ready
        "]],
        );
    }

    #[test]
    fn a_pod_without_a_node_shows_what_is_missing() {
        let pod = json!({"metadata": {"name": "web-1", "uid": "u"}, "spec": {}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes fit: 1 lacks memory"}]}});
        let decision = json!({"strategy": "spread", "node": "", "nodes": [{"node": "n1", "fits": false, "why": "memory: 2Gi asked, 1Gi free"}]});
        check(
            &pod,
            &[trace(&decision)],
            &expect![[r"
            pod/web-1
              node: none yet
              why: 0 of 1 nodes fit, strategy spread
                ✗ n1  memory: 2Gi asked, 1Gi free
              now: has no node: 0/1 nodes fit: 1 lacks memory
        "]],
        );
        check(
            &pod,
            &[json!({"reason": TRACE, "involvedObject": {"uid": "u"}, "message": "not json"})],
            &expect![[r"
            pod/web-1
              node: none yet
              why: the scheduler has not decided
              now: has no node: 0/1 nodes fit: 1 lacks memory
        "]],
        );
    }
}
