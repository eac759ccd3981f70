//! `rollout`: the life of a Deployment's versions.

mod history;

use std::time::Duration;

use drover_api::object;
use serde_json::{Value, json};

use super::{annotations::RESTARTED_AT, duration};
use crate::{
    cli::Context,
    cluster::{Cluster, PatchType, Query, Resource},
    completion,
    failure::Failure,
    input::{Selected, select, to_yaml},
    output::Table,
    progress::{self, Settings, Target},
};
use history::{Revision, revisions, undo_patch};

/// Look after rollouts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl rollout status deploy/web\n  droverctl rollout undo deploy/web --to-revision=3"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Watch a rollout until it is done
    Status(StatusArgs),
    /// List the revisions there are
    History(HistoryArgs),
    /// Go back to an earlier revision
    Undo(UndoArgs),
    /// Replace all pods, in the manner of a rollout
    Restart(ObjectArgs),
    /// Hold a rollout where it is
    Pause(ObjectArgs),
    /// Let a held rollout go on
    Resume(ObjectArgs),
}

#[derive(Debug, clap::Args)]
struct ObjectArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(required = true, value_name = "OBJECT", add = completion::objects())]
    words: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    objects: ObjectArgs,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
    /// Wait until it is done
    #[arg(short, long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    watch: bool,
}

#[derive(Debug, clap::Args)]
struct HistoryArgs {
    #[command(flatten)]
    objects: ObjectArgs,
    /// Show what this revision runs
    #[arg(long, value_name = "N")]
    revision: Option<i64>,
}

#[derive(Debug, clap::Args)]
struct UndoArgs {
    #[command(flatten)]
    objects: ObjectArgs,
    /// The revision; the one before the current when left out
    #[arg(long, value_name = "N", default_value_t = 0)]
    to_revision: i64,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = super::DryRun::None)]
    dry_run: super::DryRun,
}

/// Runs `rollout`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    match args.action {
        Action::Status(args) => status(args, ctx, &cluster).await,
        Action::History(args) => show_history(args, ctx, &cluster).await,
        Action::Undo(args) => undo(args, ctx, &cluster).await,
        Action::Restart(args) => restart(args, ctx, &cluster).await,
        Action::Pause(args) => pause(args, ctx, &cluster, true).await,
        Action::Resume(args) => pause(args, ctx, &cluster, false).await,
    }
}

/// The named objects, all of which must be named.
async fn named(cluster: &Cluster, args: &ObjectArgs) -> anyhow::Result<Vec<(Resource, String, Value)>> {
    let mut found = Vec::new();
    for Selected { resource, name } in select(cluster, &args.words).await? {
        let names = match name {
            Some(name) => vec![name],
            None => {
                let listed = cluster.list(&resource.collection(Some(&cluster.namespace))).await?;
                listed.iter().map(|one| object::name(one).to_owned()).collect()
            }
        };
        for name in names {
            let live = cluster.get(&resource.object(&cluster.namespace, &name)).await?;
            found.push((resource.clone(), name, live));
        }
    }
    Ok(found)
}

async fn status(args: StatusArgs, ctx: &Context, cluster: &Cluster) -> anyhow::Result<u8> {
    let live = named(cluster, &args.objects).await?;
    if !args.watch {
        for (_, _, live) in &live {
            let target = Target::of(live);
            ctx.output.line(format!("{}: {}", target.label(), progress::state(live, 0).words()))?;
        }
        return Ok(0);
    }
    let targets: Vec<Target> = live.iter().map(|(_, _, live)| Target::of(live)).collect();
    let settings = Settings { timeout: args.timeout, quiet: false };
    let outcome = progress::wait(cluster, ctx.output, &targets, settings).await?;
    if outcome == progress::Outcome::Done {
        for (resource, name, _) in &live {
            ctx.output.line(format!("{}/{name} successfully rolled out", resource.label()))?;
        }
    }
    Ok(outcome.finish(ctx.output))
}

async fn replica_sets(cluster: &Cluster, deployment: &Value) -> anyhow::Result<Vec<Value>> {
    let resource = cluster.resource("replicasets").await?;
    let selector = super::pods::selector_of(deployment);
    let query = Query::new().with_some("labelSelector", selector.as_deref());
    Ok(cluster.list(&query.on(&resource.collection(Some(&cluster.namespace)))).await?)
}

async fn history_of(cluster: &Cluster, resource: &Resource, live: &Value) -> anyhow::Result<Vec<Revision>> {
    if resource.kind != "Deployment" {
        let message = format!("{} keeps no revisions", resource.plural);
        return Err(Failure::new(message).help("only Deployments do").into());
    }
    Ok(revisions(object::uid(live), replica_sets(cluster, live).await?))
}

async fn show_history(args: HistoryArgs, ctx: &Context, cluster: &Cluster) -> anyhow::Result<u8> {
    for (resource, name, live) in named(cluster, &args.objects).await? {
        let history = history_of(cluster, &resource, &live).await?;
        if let Some(number) = args.revision {
            let found = history.iter().find(|revision| revision.number == number);
            let found = found.ok_or_else(|| history::missing(number, &history))?;
            ctx.output.line(format!("{}/{name} with revision #{number}", resource.label()))?;
            ctx.output.text(&to_yaml(&found.template))?;
            continue;
        }
        ctx.output.line(format!("{}/{name}", resource.label()))?;
        let mut table = Table::new();
        table.row(["REVISION", "CHANGE-CAUSE", "IMAGES"]);
        for revision in &history {
            table.row([revision.number.to_string(), revision.cause.clone(), revision.images()]);
        }
        table.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
    }
    Ok(0)
}

async fn undo(args: UndoArgs, ctx: &Context, cluster: &Cluster) -> anyhow::Result<u8> {
    for (resource, name, live) in named(cluster, &args.objects).await? {
        if object::at(&live, &["spec", "paused"]).and_then(Value::as_bool).unwrap_or(false) {
            let help = format!("droverctl rollout resume {}/{name}", resource.singular);
            return Err(Failure::new(format!("{}/{name} is paused", resource.label())).help(help).into());
        }
        let history = history_of(cluster, &resource, &live).await?;
        let Some(patch) = undo_patch(&live, &history, args.to_revision)? else {
            ctx.output.line(format!("{}/{name} skipped rollback (it already runs that template)", resource.label()))?;
            continue;
        };
        let query = Query::new().with_some("dryRun", args.dry_run.parameter());
        cluster.patch(&query.on(&resource.object(&cluster.namespace, &name)), PatchType::Merge, &patch).await?;
        ctx.output.line(format!("{}/{name} rolled back{}", resource.label(), args.dry_run.suffix()))?;
    }
    Ok(0)
}

async fn restart(args: ObjectArgs, ctx: &Context, cluster: &Cluster) -> anyhow::Result<u8> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for (resource, name, live) in named(cluster, &args).await? {
        if object::at(&live, &["spec", "template"]).is_none() {
            return Err(Failure::new(format!("{}/{name} has no pod template to restart", resource.label())).into());
        }
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: now}}}}});
        cluster.patch(&resource.object(&cluster.namespace, &name), PatchType::Merge, &patch).await?;
        ctx.output.line(format!("{}/{name} restarted", resource.label()))?;
    }
    Ok(0)
}

async fn pause(args: ObjectArgs, ctx: &Context, cluster: &Cluster, paused: bool) -> anyhow::Result<u8> {
    for (resource, name, live) in named(cluster, &args).await? {
        if resource.kind != "Deployment" {
            return Err(Failure::new(format!("{} cannot be paused", resource.plural))
                .help("only Deployments can")
                .into());
        }
        let (word, already) = if paused { ("paused", "already paused") } else { ("resumed", "not paused") };
        if object::at(&live, &["spec", "paused"]).and_then(Value::as_bool).unwrap_or(false) == paused {
            return Err(Failure::new(format!("{}/{name} is {already}", resource.label())).into());
        }
        let patch = json!({"spec": {"paused": paused}});
        cluster.patch(&resource.object(&cluster.namespace, &name), PatchType::Merge, &patch).await?;
        ctx.output.line(format!("{}/{name} {word}", resource.label()))?;
    }
    Ok(0)
}
