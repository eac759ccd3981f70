//! `scale`: sets the number of replicas through the scale subresource.

use drover_api::object;
use serde_json::json;

use crate::{
    cli::Context,
    cluster::{PatchType, Query},
    completion,
    failure::Failure,
    input::select,
};

/// Set the number of replicas.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  droverctl scale deploy/web --replicas=5\n  \
    droverctl scale deploy web --replicas=5 --current-replicas=3")]
pub(crate) struct Args {
    /// KIND/NAME... or KIND NAME...
    #[arg(required = true, value_name = "OBJECT", add = completion::objects())]
    words: Vec<String>,
    /// How many
    #[arg(long, value_name = "COUNT")]
    replicas: i32,
    /// Only when there are as many now
    #[arg(long, value_name = "COUNT")]
    current_replicas: Option<i64>,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = super::DryRun::None)]
    dry_run: super::DryRun,
}

/// Runs `scale`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    for one in select(&cluster, &args.words).await? {
        let Some(name) = &one.name else {
            return Err(Failure::new("which objects?")
                .help("name them: droverctl scale deploy/web --replicas=3")
                .into());
        };
        let path = one.resource.subresource(&cluster.namespace, name, "scale");
        let mut patch = json!({"spec": {"replicas": args.replicas}});
        if let Some(expected) = args.current_replicas {
            let scale = cluster.get(&path).await?;
            let current = object::at(&scale, &["spec", "replicas"]).and_then(serde_json::Value::as_i64).unwrap_or(0);
            if current != expected {
                let message = format!("{}/{name} has {current} replicas, not {expected}", one.resource.label());
                return Err(Failure::new(message).into());
            }
            patch["metadata"] = json!({"resourceVersion": object::resource_version(&scale)});
        }
        let path = Query::new().with_some("dryRun", args.dry_run.parameter()).on(&path);
        cluster.patch(&path, PatchType::Merge, &patch).await?;
        ctx.output.line(format!("{}/{name} scaled{}", one.resource.label(), args.dry_run.suffix()))?;
    }
    Ok(0)
}
