//! `cluster-info`, `version` and `api-resources`: what is on the other side.

use drover_api::object::str_at;
use serde_json::Value;

use crate::{
    cli::Context,
    output::{Style, Table, Text},
};

/// Show where the server is.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterInfoArgs {}

/// Show the versions of this tool and of the server.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Only of this tool
    #[arg(long)]
    client: bool,
}

/// List the kinds that the server serves.
#[derive(Debug, clap::Args)]
pub(crate) struct ApiResourcesArgs {
    /// Only kinds that live in namespaces, or only those that do not
    #[arg(long, value_name = "BOOL")]
    namespaced: Option<bool>,
    /// Only of this API group
    #[arg(long, value_name = "GROUP")]
    api_group: Option<String>,
    /// Only the names
    #[arg(short, long, value_name = "FORMAT", value_parser = ["name", "wide"])]
    output: Option<String>,
    /// Without headings
    #[arg(long)]
    no_headers: bool,
}

/// Runs `cluster-info`.
pub(crate) async fn cluster_info(_args: ClusterInfoArgs, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let version = cluster.get("/version").await?;
    let nodes = cluster.list("/api/v1/nodes").await?;
    let ready = nodes.iter().filter(|node| is_ready(node)).count();
    let fact =
        |name: &str, value: String| ctx.output.line(Text::new().plain(format!("{name:<8} ")).with(Style::Green, value));
    fact("Server", cluster.server.clone())?;
    fact("Version", str_at(&version, &["gitVersion"]).to_owned())?;
    fact("Context", cluster.context.clone())?;
    fact("Nodes", format!("{ready} of {} ready", nodes.len()))?;
    let health = match cluster.get_text("/readyz").await {
        Ok(answer) => answer.lines().last().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    fact("Ready", health)?;
    Ok(0)
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Runs `version`.
pub(crate) async fn version(args: VersionArgs, ctx: &Context) -> anyhow::Result<u8> {
    ctx.output.line(format!("Client: droverctl {}", env!("CARGO_PKG_VERSION")))?;
    if !args.client {
        let version = ctx.cluster().await?.get("/version").await?;
        ctx.output.line(format!("Server: {}", str_at(&version, &["gitVersion"])))?;
    }
    Ok(0)
}

/// Runs `api-resources`.
pub(crate) async fn api_resources(args: ApiResourcesArgs, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let mut table = Table::new();
    let (names, wide) = (args.output.as_deref() == Some("name"), args.output.as_deref() == Some("wide"));
    if !args.no_headers && !names {
        let verbs = wide.then_some("VERBS");
        table.row(["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"].into_iter().chain(verbs));
    }
    for resource in cluster.resources().await? {
        let unwanted = args.namespaced.is_some_and(|namespaced| namespaced != resource.namespaced)
            || args.api_group.as_ref().is_some_and(|group| *group != resource.group);
        if unwanted {
            continue;
        }
        if names {
            let suffix = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
            table.row([format!("{}{suffix}", resource.plural)]);
            continue;
        }
        let cells = [
            resource.plural.clone(),
            resource.short_names.join(","),
            resource.api_version(),
            resource.namespaced.to_string(),
            resource.kind.clone(),
        ];
        table.row(cells.into_iter().chain(wide.then(|| resource.verbs.join(","))));
    }
    table.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
    Ok(0)
}
