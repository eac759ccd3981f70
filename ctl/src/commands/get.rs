//! `get`: objects as tables, documents, names or what a template picks.

use std::io;

use anyhow::Context as _;
use drover_api::object;
use futures::StreamExt as _;
use serde_json::{Value, json};

mod format;
mod rows;

use crate::{
    cli::Context,
    cluster::{Cluster, Query, Resource},
    completion,
    failure::Failure,
    input::{Selected, select},
    output::{Output, Table},
};
pub(super) use format::Format;
use rows::Rows;

/// Show objects.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  droverctl get pods -o wide\n  droverctl get deploy,svc -A\n  \
    droverctl get pod/web-1 -o jsonpath='{.status.podIP}'\n  droverctl get pods -l app=web -w")]
pub(crate) struct Args {
    /// `KIND[,KIND] [NAME...]` or KIND/NAME...
    #[arg(required = true, value_name = "OBJECT", add = completion::objects())]
    words: Vec<String>,
    /// wide, yaml, json, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", default_value = "")]
    output: Format,
    /// Go on and show every change
    #[arg(short, long)]
    watch: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels: app=web,tier!=db
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Only objects with these fields: status.phase=Running
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,
    /// Without headings
    #[arg(long)]
    no_headers: bool,
    /// With a column of labels
    #[arg(long)]
    show_labels: bool,
    /// No error when a named object does not exist
    #[arg(long)]
    ignore_not_found: bool,
}

impl Args {
    fn query(&self) -> Query {
        Query::new()
            .with_some("labelSelector", self.selector.as_deref())
            .with_some("fieldSelector", self.field_selector.as_deref())
    }

    fn collection(&self, cluster: &Cluster, resource: &Resource) -> String {
        resource.collection((!self.all_namespaces).then_some(cluster.namespace.as_str()))
    }

    fn rows(&self, resource: &Resource, several_kinds: bool) -> Rows {
        Rows {
            wide: self.output == Format::Wide,
            headers: !self.no_headers,
            labels: self.show_labels,
            namespace: self.all_namespaces && resource.namespaced,
            prefix: several_kinds.then(|| resource.label()),
        }
    }
}

/// Runs `get`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let selected = select(&cluster, &args.words).await?;
    let names = selected.iter().any(|one| one.name.is_some());
    if names && (args.all_namespaces || args.selector.is_some()) {
        return Err(Failure::new("names cannot be combined with -A or -l").into());
    }
    if args.watch {
        return watch(&args, &cluster, ctx.output, &selected).await;
    }
    match &args.output {
        Format::Table | Format::Wide => tables(&args, &cluster, ctx.output, &selected).await,
        Format::Yaml | Format::Json | Format::Name | Format::JsonPath(_) => {
            let single = selected.len() == 1 && names;
            let mut objects = Vec::new();
            for one in &selected {
                objects.extend(fetch(&args, &cluster, one).await?);
            }
            print_objects(&args.output, ctx.output, objects, single)?;
            Ok(0)
        }
    }
}

async fn fetch(args: &Args, cluster: &Cluster, one: &Selected) -> anyhow::Result<Vec<Value>> {
    match &one.name {
        None => Ok(cluster.list(&args.query().on(&args.collection(cluster, &one.resource))).await?),
        Some(name) => match cluster.get(&one.resource.object(&cluster.namespace, name)).await {
            Err(error) if error.is_not_found() && args.ignore_not_found => Ok(Vec::new()),
            answer => Ok(vec![answer?]),
        },
    }
}

fn print_objects(format: &Format, output: Output, mut objects: Vec<Value>, single: bool) -> io::Result<()> {
    if *format == Format::Name {
        return objects.iter().try_for_each(|object| output.line(name_of(object)));
    }
    let document = match (single, objects.len()) {
        (true, 1) => objects.remove(0),
        (true, 0) => return Ok(()),
        (true | false, _) => {
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
        }
    };
    output.text(&format.render(&document))
}

/// `deployment.apps/web`, from the object alone.
fn name_of(object: &Value) -> String {
    let kind = object::str_at(object, &["kind"]).to_lowercase();
    match object::str_at(object, &["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", object::name(object)),
        None => format!("{kind}/{}", object::name(object)),
    }
}

async fn tables(args: &Args, cluster: &Cluster, output: Output, selected: &[Selected]) -> anyhow::Result<u8> {
    let several_kinds = selected.iter().any(|one| one.resource != selected[0].resource);
    let mut code = 0;
    let mut printed_any = false;
    for group in selected.chunk_by(|left, right| left.resource == right.resource) {
        let resource = &group[0].resource;
        let rows = args.rows(resource, several_kinds);
        let mut table = Table::new();
        for one in group {
            let path = match &one.name {
                Some(name) => resource.object(&cluster.namespace, name),
                None => args.query().on(&args.collection(cluster, resource)),
            };
            match cluster.get_table(&path).await {
                Ok(answer) => rows.add(&answer, table.is_empty(), &mut table),
                Err(error) if error.is_not_found() && args.ignore_not_found => {}
                // One missing object does not hide the others.
                Err(error) if error.is_not_found() && group.len() > 1 => {
                    output.note(&format!("error: {error}"));
                    code = 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !table.is_empty() {
            if printed_any {
                output.line("")?;
            }
            table.lines().into_iter().try_for_each(|line| output.line(line))?;
            printed_any = true;
        }
    }
    if !printed_any && code == 0 && !args.ignore_not_found {
        let place = if args.all_namespaces || selected.iter().all(|one| !one.resource.namespaced) {
            String::new()
        } else {
            format!(" in {} namespace", cluster.namespace)
        };
        output.note(&format!("No resources found{place}."));
    }
    Ok(code)
}

async fn watch(args: &Args, cluster: &Cluster, output: Output, selected: &[Selected]) -> anyhow::Result<u8> {
    let [one] = selected else {
        return Err(Failure::new("only one kind, or one object, can be watched at a time").into());
    };
    let mut query = args.query();
    if let Some(name) = &one.name {
        query = query.with("fieldSelector", format!("metadata.name={name}"));
    }
    let collection = args.collection(cluster, &one.resource);
    let as_table = matches!(args.output, Format::Table | Format::Wide);
    let rows = args.rows(&one.resource, false);
    loop {
        let path = query.on(&collection);
        let list = if as_table { cluster.get_table(&path).await } else { cluster.get(&path).await }?;
        let mut columns = list["columnDefinitions"].clone();
        let mut table = Table::new();
        if as_table {
            rows.add(&list, true, &mut table);
            table.lines().into_iter().try_for_each(|line| output.line(line))?;
        } else {
            print_each(&args.output, output, list["items"].as_array().cloned().unwrap_or_default())?;
        }
        let query = query.clone().with("watch", "true").with("resourceVersion", object::resource_version(&list));
        let mut events = cluster.watch(&query.on(&collection), as_table).await?;
        while let Some(event) = events.next().await {
            let mut event = match event {
                Err(error) if error.code() == 410 => break,
                other => other.context("watch")?,
            };
            if event["type"] == "BOOKMARK" {
                continue;
            }
            let mut object = event["object"].take();
            if !as_table {
                print_each(&args.output, output, vec![object])?;
                continue;
            }
            // Only the first event of a watch carries the columns.
            if object["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()) {
                columns = object["columnDefinitions"].clone();
            } else {
                object["columnDefinitions"] = columns.clone();
            }
            let mut next = Table::like(&table);
            rows.add(&object, false, &mut next);
            next.lines().into_iter().try_for_each(|line| output.line(line))?;
        }
    }
}

fn print_each(format: &Format, output: Output, objects: Vec<Value>) -> io::Result<()> {
    for object in objects {
        if *format == Format::Yaml {
            output.line("---")?;
        }
        print_objects(format, output, vec![object], true)?;
    }
    Ok(())
}
