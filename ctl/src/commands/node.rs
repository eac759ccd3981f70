//! `cordon`, `uncordon` and `drain`: taking a node out of use without hurting anybody.

use std::time::Duration;

use drover_api::object::{self, str_at};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::{delete::gone_by_uid, duration};
use crate::{
    cli::Context,
    cluster::{Cluster, PatchType, Query},
    completion,
    failure::Failure,
    output::Output,
};

/// Keep new pods off a node, or let them on again.
#[derive(Debug, clap::Args)]
pub(crate) struct CordonArgs {
    /// The nodes
    #[arg(required = true, value_name = "NODE", add = completion::names_of("nodes"))]
    nodes: Vec<String>,
}

/// Move all pods off a node.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every pod is evicted, which respects PodDisruptionBudgets: an eviction that a budget forbids is tried again.\n\n\
    Example:\n  droverctl drain n1 --ignore-daemonsets --delete-emptydir-data\n\nExit codes: 0 done, 1 failed, 2 timed out"
)]
pub(crate) struct DrainArgs {
    /// The nodes
    #[arg(required = true, value_name = "NODE", add = completion::names_of("nodes"))]
    nodes: Vec<String>,
    /// Go on although there are pods of DaemonSets, which stay
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Go on although there are pods whose emptyDir data will be lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Go on although there are pods that nobody will make again
    #[arg(long)]
    force: bool,
    /// Seconds that containers get to stop; each pod's own when left out
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// How long to try
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    timeout: Duration,
    /// Only list what would be evicted
    #[arg(long, value_enum, default_value_t = super::DryRun::None)]
    dry_run: super::DryRun,
}

/// How long to wait before a refused eviction is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Runs `cordon` and `uncordon`.
pub(crate) async fn cordon(args: CordonArgs, ctx: &Context, on: bool) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    for node in &args.nodes {
        set_unschedulable(&cluster, ctx.output, node, on).await?;
    }
    Ok(0)
}

async fn set_unschedulable(cluster: &Cluster, output: Output, node: &str, on: bool) -> anyhow::Result<()> {
    let path = cluster.resource("nodes").await?.object("", node);
    let live = cluster.get(&path).await?;
    let word = if on { "cordoned" } else { "uncordoned" };
    if object::at(&live, &["spec", "unschedulable"]).and_then(Value::as_bool).unwrap_or(false) == on {
        output.line(format!("node/{node} already {word}"))?;
        return Ok(());
    }
    let patch = json!({"spec": {"unschedulable": if on { Value::Bool(true) } else { Value::Null }}});
    cluster.patch(&path, PatchType::Merge, &patch).await?;
    output.line(format!("node/{node} {word}"))?;
    Ok(())
}

/// Runs `drain`.
pub(crate) async fn drain(args: DrainArgs, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let deadline = Instant::now() + args.timeout;
    for node in &args.nodes {
        let query = Query::new().with("fieldSelector", format!("spec.nodeName={node}"));
        if args.dry_run == super::DryRun::None {
            set_unschedulable(&cluster, ctx.output, node, true).await?;
        }
        let pods = cluster.list(&query.on(&cluster.resource("pods").await?.collection(None))).await?;
        let plan = plan(&pods, &args);
        if !plan.obstacles.is_empty() {
            let message = format!("node \"{node}\" is cordoned but not drained: {}", plan.obstacles.join("; "));
            return Err(Failure::new(message).help(plan.help()).into());
        }
        for pod in plan.evict {
            let name = format!("pod/{} -n {}", object::name(pod), object::namespace(pod));
            if args.dry_run == super::DryRun::Server {
                ctx.output.line(format!("{name} would be evicted"))?;
                continue;
            }
            ctx.output.line(format!("evicting {name}"))?;
            if let Err(why) = evict(&cluster, ctx.output, pod, args.grace_period, deadline).await? {
                ctx.output.note(&format!("error: timed out: {name}: {why}"));
                return Ok(2);
            }
        }
        if args.dry_run == super::DryRun::None {
            ctx.output.line(format!("node/{node} drained"))?;
        }
    }
    Ok(0)
}

/// What is to be evicted, and what speaks against it.
#[derive(Debug, Default)]
struct Plan<'a> {
    evict: Vec<&'a Value>,
    obstacles: Vec<String>,
    flags: Vec<&'static str>,
}

impl Plan<'_> {
    fn refuse(&mut self, pod: &Value, what: &str, flag: &'static str) {
        self.obstacles.push(format!("pod \"{}\" {what}", object::name(pod)));
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    fn help(&self) -> String {
        format!("to go on anyway, add {}", self.flags.join(" "))
    }
}

/// Decides for every pod of a node. Pods that came from a file on the node stay: nobody could bring them back.
fn plan<'a>(pods: &'a [Value], args: &DrainArgs) -> Plan<'a> {
    let mut plan = Plan::default();
    for pod in pods {
        let is_over = matches!(str_at(pod, &["status", "phase"]), "Succeeded" | "Failed");
        let is_mirror = object::at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
        let owner = controller(pod);
        let has_data = !is_over && has_empty_dir(pod);
        if is_mirror {
        } else if owner == Some("DaemonSet") {
            if !args.ignore_daemonsets {
                plan.refuse(pod, "belongs to a DaemonSet, which would make it again", "--ignore-daemonsets");
            }
        } else if owner.is_none() && !is_over && !args.force {
            plan.refuse(pod, "has no controller that would make it again elsewhere", "--force");
        } else if has_data && !args.delete_emptydir_data {
            plan.refuse(pod, "would lose the data of its emptyDir volumes", "--delete-emptydir-data");
        } else {
            plan.evict.push(pod);
        }
    }
    plan
}

fn controller(pod: &Value) -> Option<&str> {
    let owners = object::at(pod, &["metadata", "ownerReferences"]).and_then(Value::as_array);
    owners.into_iter().flatten().find(|owner| owner["controller"] == true).map(|owner| str_at(owner, &["kind"]))
}

fn has_empty_dir(pod: &Value) -> bool {
    let volumes = object::at(pod, &["spec", "volumes"]).and_then(Value::as_array);
    volumes.into_iter().flatten().any(|volume| volume.get("emptyDir").is_some())
}

/// Evicts a pod and waits until it is gone. `Err` says what it waited for when time was up.
async fn evict(
    cluster: &Cluster,
    output: Output,
    pod: &Value,
    grace_period: Option<i64>,
    deadline: Instant,
) -> anyhow::Result<Result<(), String>> {
    let pods = cluster.resource("pods").await?;
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let mut options = json!({"preconditions": {"uid": object::uid(pod)}});
    if let Some(secs) = grace_period {
        options["gracePeriodSeconds"] = secs.into();
    }
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options});
    let path = pods.subresource(namespace, name, "eviction");
    let mut told = false;
    loop {
        match cluster.create(&path, &eviction).await {
            Ok(_) => break,
            // Gone, or another pod of the same name: ours is not here any more.
            Err(error) if error.is_not_found() || error.is_conflict() => return Ok(Ok(())),
            Err(error) if error.code() == 429 => {
                if !told {
                    output.note(&format!("pod/{name}: {error} (trying again)"));
                    told = true;
                }
                if Instant::now() + RETRY >= deadline {
                    return Ok(Err(error.to_string()));
                }
                sleep(RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let gone = timeout_at(deadline, gone_by_uid(cluster, &pods, namespace, name, object::uid(pod))).await;
    Ok(gone.map_err(|_| "its containers are still stopping".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(ignore_daemonsets: bool, delete_emptydir_data: bool, force: bool) -> DrainArgs {
        DrainArgs {
            nodes: vec![],
            ignore_daemonsets,
            delete_emptydir_data,
            force,
            grace_period: None,
            timeout: Duration::ZERO,
            dry_run: super::super::DryRun::None,
        }
    }

    fn pod(name: &str, owner: Option<&str>, spec: &Value) -> Value {
        let owners = owner.map(|kind| vec![json!({"kind": kind, "controller": true})]).unwrap_or_default();
        json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": spec, "status": {"phase": "Running"}})
    }

    fn names(pods: &[Value], args: &DrainArgs) -> (Vec<String>, String) {
        let plan = plan(pods, args);
        (plan.evict.iter().map(|pod| object::name(pod).to_owned()).collect(), plan.flags.join(" "))
    }

    #[test]
    fn pods_that_would_be_lost_stand_in_the_way_until_allowed() {
        let mut mirror = pod("mirror", None, &json!({}));
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        let pods = [
            pod("plain", Some("ReplicaSet"), &json!({})),
            pod("agent", Some("DaemonSet"), &json!({})),
            pod("bare", None, &json!({})),
            pod("cache", Some("ReplicaSet"), &json!({"volumes": [{"name": "d", "emptyDir": {}}]})),
            mirror,
        ];
        let strict = names(&pods, &args(false, false, false));
        assert_eq!(strict, (vec!["plain".to_owned()], "--ignore-daemonsets --force --delete-emptydir-data".to_owned()));
        let lenient = names(&pods, &args(true, true, true));
        assert_eq!(lenient, (["plain", "bare", "cache"].map(str::to_owned).to_vec(), String::new()));
    }

    #[test]
    fn pods_that_are_over_are_no_obstacle() {
        let mut over = pod("over", None, &json!({"volumes": [{"emptyDir": {}}]}));
        over["status"]["phase"] = "Succeeded".into();
        assert_eq!(names(&[over], &args(false, false, false)), (vec!["over".to_owned()], String::new()));
    }
}
