//! `describe`: everything about an object that a person wants to read, and what happened to it.

mod page;
mod sections;

use drover_api::object;
use serde_json::Value;

use super::events;
use crate::{
    cli::Context,
    cluster::{Cluster, Query, Resource},
    completion,
    failure::Failure,
    input::select,
    output::{Style, Text},
};
use page::Page;
use sections::Related;

/// Show everything about one object.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl describe pod web-1\n  droverctl describe deploy/web\n  droverctl describe nodes"
)]
pub(crate) struct Args {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "OBJECT", add = completion::objects())]
    words: Vec<String>,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Runs `describe`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let mut first = true;
    for one in select(&cluster, &args.words).await? {
        let found = match &one.name {
            Some(name) => vec![cluster.get(&one.resource.object(&cluster.namespace, name)).await?],
            None => {
                let query = Query::new().with_some("labelSelector", args.selector.as_deref());
                let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
                cluster.list(&query.on(&one.resource.collection(namespace))).await?
            }
        };
        if found.is_empty() {
            return Err(Failure::new(format!("no {} found", one.resource.plural)).into());
        }
        for found in found {
            if !first {
                ctx.output.line("")?;
            }
            first = false;
            let related = related(&cluster, &one.resource, &found).await?;
            describe(&found, &related, events::now_secs()).into_iter().try_for_each(|line| ctx.output.line(line))?;
        }
    }
    Ok(0)
}

/// Fetches what the sections of a kind need besides the object. What may not be read is left out.
async fn related(cluster: &Cluster, resource: &Resource, found: &Value) -> anyhow::Result<Related> {
    let mut related = Related::default();
    let about = Query::new().with("fieldSelector", format!("involvedObject.uid={}", object::uid(found)));
    let namespace = Some(object::namespace(found)).filter(|namespace| !namespace.is_empty());
    let events = cluster.list(&about.on(&cluster.resource("events").await?.collection(namespace))).await;
    related.events = events.unwrap_or_default();
    match resource.kind.as_str() {
        "Service" => {
            let selector = format!("kubernetes.io/service-name={}", object::name(found));
            let query = Query::new().with("labelSelector", selector);
            let slices = cluster.resource("endpointslices").await?.collection(namespace);
            related.slices = cluster.list(&query.on(&slices)).await.unwrap_or_default();
        }
        "Node" => {
            let query = Query::new().with("fieldSelector", format!("spec.nodeName={}", object::name(found)));
            related.pods = cluster.list(&query.on("/api/v1/pods")).await.unwrap_or_default();
        }
        "Deployment" => {
            let query = Query::new().with_some("labelSelector", super::pods::selector_of(found).as_deref());
            let sets = cluster.resource("replicasets").await?.collection(namespace);
            related.replica_sets = cluster.list(&query.on(&sets)).await.unwrap_or_default();
        }
        "PersistentVolumeClaim" => {
            let pods = cluster.resource("pods").await?.collection(namespace);
            related.pods = cluster.list(&pods).await.unwrap_or_default();
        }
        _ => {}
    }
    Ok(related)
}

/// The whole page.
fn describe(found: &Value, related: &Related, now_secs: i64) -> Vec<Text> {
    let mut page = Page::new();
    sections::header(found, now_secs, &mut page);
    sections::of_kind(found, related, &mut page);
    if let Some(why) = crate::explain::deletion(found) {
        page.field("Deletion", why.trim_start_matches(": "));
    }
    sections::conditions(found, &mut page);
    let shown: Vec<Value> =
        related.events.iter().filter(|event| event["reason"] != super::why::TRACE).cloned().collect();
    if shown.is_empty() {
        page.field("Events", "<none>");
    } else {
        page.heading("Events");
        let table = events::rows(&shown, false, true, now_secs);
        table.lines().into_iter().for_each(|line| page.line(Text::new().plain("  ").with(Style::Plain, line)));
    }
    page.finish()
}

#[cfg(test)]
mod tests;
