//! `delete`: removes exactly the objects that were looked at.
//!
//! Every deletion carries the uid that was seen, so that an object of the same name that was made in the meantime is
//! never the victim.

use std::{io::Write as _, time::Duration};

use drover_api::object;
use serde_json::Value;

use super::duration;
use crate::{
    cli::Context,
    cluster::{Cluster, Delete, Event, Query, Resource, follow},
    completion,
    failure::Failure,
    input::{SourceArgs, read_documents, select},
    output::{Output, escape_line},
};

/// Delete objects.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  droverctl delete -f app.yaml\n  droverctl delete pod/web-1 --grace-period=5\n  \
    droverctl delete pods -l app=web\n  droverctl delete deploy --all --wait=false")]
pub(crate) struct Args {
    /// KIND NAME... or KIND/NAME...
    #[arg(value_name = "OBJECT", add = completion::objects())]
    words: Vec<String>,
    #[command(flatten)]
    sources: SourceArgs,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "all")]
    selector: Option<String>,
    /// All objects of the kind in the namespace
    #[arg(long)]
    all: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
    /// Seconds that containers get to stop
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// Remove pods from the API at once, without waiting for their containers
    #[arg(long)]
    force: bool,
    /// Only delete the object with this uid
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
    /// What to do with owned objects
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    cascade: Cascade,
    /// No error when an object does not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Say what would be deleted
    #[arg(long, value_enum, default_value_t = super::DryRun::None)]
    dry_run: super::DryRun,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Cascade {
    Background,
    Foreground,
    Orphan,
}

impl Cascade {
    fn policy(self) -> &'static str {
        match self {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
            Cascade::Orphan => "Orphan",
        }
    }
}

/// One object that is to go.
#[derive(Debug, Clone)]
struct Victim {
    resource: Resource,
    namespace: String,
    name: String,
    uid: String,
}

/// Runs `delete`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let victims = find(&args, &cluster, ctx.output).await?;
    if !confirm(&args, &cluster, ctx.output, &victims)? {
        ctx.output.note("nothing deleted");
        return Ok(1);
    }
    let mut failed = None;
    for victim in &victims {
        if let Err(error) = delete(&args, &cluster, ctx.output, victim).await {
            match failed {
                None => failed = Some(error),
                Some(_) => ctx.output.note(&format!("error: {error}")),
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if args.wait && args.dry_run == super::DryRun::None {
        return wait_gone(&args, &cluster, ctx.output, &victims).await;
    }
    Ok(0)
}

async fn find(args: &Args, cluster: &Cluster, output: Output) -> anyhow::Result<Vec<Victim>> {
    let mut victims = Vec::new();
    let missing = |error: crate::cluster::Error| -> anyhow::Result<()> {
        if error.is_not_found() && args.ignore_not_found { Ok(()) } else { Err(error.into()) }
    };
    if !args.sources.filenames.is_empty() {
        let mut documents = read_documents(&args.sources).await?;
        // What was applied last goes first.
        crate::input::by_dependency(&mut documents);
        for document in documents.iter().rev() {
            let kind = object::str_at(&document.object, &["kind"]);
            let resource = cluster.resource_of_kind(object::str_at(&document.object, &["apiVersion"]), kind).await?;
            let namespace = match object::namespace(&document.object) {
                "" => cluster.namespace.clone(),
                named => named.to_owned(),
            };
            match cluster.get(&resource.object(&namespace, object::name(&document.object))).await {
                Ok(found) => victims.push(victim(&resource, &found)),
                Err(error) if error.is_not_found() => output.note(&format!("{error}")),
                Err(error) => missing(error)?,
            }
        }
        return Ok(victims);
    }
    for one in select(cluster, &args.words).await? {
        match &one.name {
            Some(name) => match cluster.get(&one.resource.object(&cluster.namespace, name)).await {
                Ok(found) => victims.push(victim(&one.resource, &found)),
                Err(error) => missing(error)?,
            },
            None if args.all || args.selector.is_some() => {
                let query = Query::new().with_some("labelSelector", args.selector.as_deref());
                let found = cluster.list(&query.on(&one.resource.collection(Some(&cluster.namespace)))).await?;
                victims.extend(found.iter().map(|found| victim(&one.resource, found)));
            }
            None => {
                return Err(Failure::new("which objects?").help("name them, or pass -l SELECTOR or --all").into());
            }
        }
    }
    Ok(victims)
}

fn victim(resource: &Resource, found: &Value) -> Victim {
    Victim {
        resource: resource.clone(),
        namespace: object::namespace(found).to_owned(),
        name: object::name(found).to_owned(),
        uid: object::uid(found).to_owned(),
    }
}

/// Asks a person before many objects, or everything in a namespace, are deleted in what may be the wrong cluster.
fn confirm(args: &Args, cluster: &Cluster, output: Output, victims: &[Victim]) -> anyhow::Result<bool> {
    let sweeping = args.all || victims.iter().any(|victim| victim.resource.kind == "Namespace");
    let asks = sweeping && !args.yes && !victims.is_empty() && args.dry_run == super::DryRun::None;
    if !asks || !output.is_terminal() || !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Ok(true);
    }
    let names: Vec<String> =
        victims.iter().take(5).map(|victim| format!("{}/{}", victim.resource.label(), victim.name)).collect();
    let more =
        if victims.len() > names.len() { format!(" and {} more", victims.len() - names.len()) } else { String::new() };
    let question =
        format!("Delete {}{more} of context {} ({})? [y/N] ", names.join(", "), cluster.context, cluster.server);
    output.bytes(escape_line(&question).as_bytes())?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn delete(args: &Args, cluster: &Cluster, output: Output, victim: &Victim) -> anyhow::Result<()> {
    let grace = if args.force { Some(args.grace_period.unwrap_or(0)) } else { args.grace_period };
    let options = Delete {
        grace_period_secs: grace,
        propagation: Some(args.cascade.policy()),
        uid: Some(args.uid.clone().unwrap_or_else(|| victim.uid.clone())),
        dry_run: args.dry_run == super::DryRun::Server,
    };
    let path = victim.resource.object(&victim.namespace, &victim.name);
    match cluster.delete(&path, &options).await {
        Ok(_) => {}
        // Gone already, or replaced by another: either way ours is gone.
        Err(error) if error.is_not_found() => {}
        Err(error) if error.is_conflict() && args.uid.is_none() => {}
        Err(error) => return Err(error.into()),
    }
    let how = if args.force { "force deleted" } else { "deleted" };
    let dry = if args.dry_run == super::DryRun::Server { " (server dry run)" } else { "" };
    output.line(format!("{}/{} {how}{dry}", victim.resource.label(), victim.name))?;
    Ok(())
}

async fn wait_gone(args: &Args, cluster: &Cluster, output: Output, victims: &[Victim]) -> anyhow::Result<u8> {
    let deadline = tokio::time::Instant::now() + args.timeout;
    for victim in victims {
        if tokio::time::timeout_at(deadline, gone(cluster, victim)).await.is_err() {
            let left = cluster.find(&victim.resource.object(&victim.namespace, &victim.name)).await?;
            let why = left.as_ref().and_then(crate::explain::deletion).unwrap_or_default();
            output.note(&format!(
                "error: {}/{} is still there after {:?}{why}",
                victim.resource.label(),
                victim.name,
                args.timeout
            ));
            return Ok(2);
        }
    }
    Ok(0)
}

/// Returns when the object is gone or another has its name.
pub(super) async fn gone_by_uid(cluster: &Cluster, resource: &Resource, namespace: &str, name: &str, uid: &str) {
    let query = Query::new().with("fieldSelector", format!("metadata.name={name}"));
    let mut events = follow(cluster, resource.collection(Some(namespace)), query);
    let is_it = |found: &Value| object::name(found) == name && (uid.is_empty() || object::uid(found) == uid);
    while let Some(event) = events.recv().await {
        match event {
            Event::Listed(found) if !found.iter().any(is_it) => return,
            Event::Deleted(found) if is_it(&found) => return,
            Event::Listed(_) | Event::Deleted(_) | Event::Changed(_) | Event::Lost(_) => {}
        }
    }
}

async fn gone(cluster: &Cluster, victim: &Victim) {
    gone_by_uid(cluster, &victim.resource, &victim.namespace, &victim.name, &victim.uid).await;
}
