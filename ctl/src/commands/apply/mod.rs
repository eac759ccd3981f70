//! `apply`: makes the cluster hold what manifests say, all of them or none.
//!
//! Every document is parsed and tried out on the server before the first write. Then objects are written in the order
//! of their dependencies, and the command stays until everything is rolled out.

mod plan;
mod target;

use std::time::Duration;

use drover_api::object;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{DryRun, duration};
use crate::{
    cli::Context,
    cluster::{Cluster, Error, Query},
    failure::Failure,
    input::{SourceArgs, by_dependency, read_documents},
    output::Output,
    progress::{self, Settings, Target},
};
pub(crate) use plan::{Write, plan};
pub(crate) use target::{Item, resolve};

/// Requests that are under way at once while manifests are tried out.
const CONCURRENT: usize = 8;
/// Writes of one object that may lose against somebody else's before we give up.
const ATTEMPTS: usize = 5;
/// Who owns the fields that are written.
pub(crate) const FIELD_MANAGER: &str = "droverctl";

/// Make the cluster hold what the manifests say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  droverctl apply -f app.yaml\n  droverctl apply -R -f manifests/ --no-wait\n  \
    cat app.yaml | droverctl apply -f -\n\nExit codes: 0 done, 1 failed, 2 timed out")]
pub(crate) struct Args {
    #[command(flatten)]
    sources: SourceArgs,
    /// Do not wait until everything is rolled out
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
    /// Check everything on the server and store nothing
    #[arg(long, value_enum, default_value_t = DryRun::None)]
    dry_run: DryRun,
}

/// Runs `apply`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let mut documents = read_documents(&args.sources).await?;
    by_dependency(&mut documents);
    let cluster = ctx.cluster().await?;
    let items = resolve(&cluster, ctx, documents).await?;
    try_out(&cluster, ctx.output, &items).await?;
    if args.dry_run == DryRun::Server {
        for item in &items {
            let live = cluster.find(&item.path()).await?;
            let word = match plan(&item.resource, &item.manifest, live.as_ref()) {
                Ok(Write::Create(_)) => "created",
                Ok(Write::Nothing) => "unchanged",
                Ok(Write::Patch(..)) | Err(_) => "configured",
            };
            ctx.output.line(format!("{} {word} (server dry run)", item.label()))?;
        }
        return Ok(0);
    }
    let mut targets = Vec::new();
    for item in &items {
        let (word, written) = write(&cluster, item).await.map_err(|failure| item.blame(&failure))?;
        ctx.output.line(format!("{} {word}", item.label()))?;
        targets.push(Target::of(&written));
    }
    if args.no_wait {
        return Ok(0);
    }
    let settings = Settings { timeout: args.timeout, quiet: false };
    Ok(progress::wait(&cluster, ctx.output, &targets, settings).await?.finish(ctx.output))
}

/// Lets the server check every item without storing it. Reports all that is wrong, not only the first.
async fn try_out(cluster: &Cluster, output: Output, items: &[Item]) -> anyhow::Result<()> {
    let new_namespaces: Vec<&str> =
        items.iter().filter(|item| item.resource.kind == "Namespace").map(Item::name).collect();
    let checks = stream::iter(items).map(|item| check(cluster, item, &new_namespaces)).buffered(CONCURRENT);
    let problems: Vec<Option<Failure>> = checks.try_collect().await?;
    let mut problems = problems.into_iter().flatten();
    let Some(first) = problems.next() else { return Ok(()) };
    for other in problems {
        output.note(&format!("error: {other}"));
    }
    Err(first.help_unless_any("nothing was applied").into())
}

/// Returns what is wrong with an item; an error when the server cannot say.
async fn check(cluster: &Cluster, item: &Item, new_namespaces: &[&str]) -> anyhow::Result<Option<Failure>> {
    let live = cluster.find(&item.path()).await?;
    let query = parameters().with("dryRun", "All");
    let tried = match plan(&item.resource, &item.manifest, live.as_ref()) {
        Err(problem) => return Ok(Some(Failure::new(format!("{}: {problem}", item.place)))),
        Ok(Write::Nothing) => return Ok(None),
        Ok(Write::Create(object)) => cluster.create(&query.on(&item.collection()), &object).await,
        Ok(Write::Patch(kind, patch)) => cluster.patch(&query.on(&item.path()), kind, &patch).await,
    };
    match tried {
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() && live.is_none() && new_namespaces.contains(&item.namespace.as_str()) => {
            let problem = plan::check_alone(&item.resource, &item.manifest);
            Ok(problem.map(|problem| Failure::new(format!("{}: {problem}", item.place))))
        }
        // Written by somebody else between our read and our try: the real write reads again.
        Err(error) if error.is_conflict() => Ok(None),
        Err(error @ Error::Api(_)) if error.code() < 500 && error.code() != 401 => Ok(Some(item.refused(&error))),
        Err(error) => Err(error.into()),
    }
}

/// Writes one item, reading and planning again when somebody else was faster.
async fn write(cluster: &Cluster, item: &Item) -> Result<(&'static str, Value), Error> {
    let mut attempt = 1;
    loop {
        let live = cluster.find(&item.path()).await?;
        let planned = plan(&item.resource, &item.manifest, live.as_ref()).map_err(Error::Protocol)?;
        let (word, written) = match planned {
            Write::Nothing => return Ok(("unchanged", live.unwrap_or_default())),
            Write::Create(object) => ("created", cluster.create(&parameters().on(&item.collection()), &object).await),
            Write::Patch(kind, patch) => {
                ("configured", cluster.patch(&parameters().on(&item.path()), kind, &patch).await)
            }
        };
        match written {
            Ok(written) => {
                let same =
                    live.is_some_and(|live| object::resource_version(&live) == object::resource_version(&written));
                return Ok((if same { "unchanged" } else { word }, written));
            }
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn parameters() -> Query {
    Query::new().with("fieldManager", FIELD_MANAGER).with("fieldValidation", "Strict")
}
