//! `top`: what nodes and pods use right now.

use drover_api::{
    object::{self, str_at},
    quantity::Quantity,
};
use serde_json::Value;

use crate::{
    cli::Context,
    cluster::{Error, Query},
    completion,
    failure::Failure,
    output::Table,
};

/// Show what nodes and pods use.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// What nodes use, and how much of what they have
    #[command(visible_aliases = ["node", "no"])]
    Nodes(NodeArgs),
    /// What pods use
    #[command(visible_aliases = ["pod", "po"])]
    Pods(PodArgs),
}

#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// Only this node
    #[arg(add = completion::names_of("nodes"))]
    name: Option<String>,
    /// Only nodes with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Without headings
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, clap::Args)]
struct PodArgs {
    /// Only this pod
    #[arg(add = completion::names_of("pods"))]
    name: Option<String>,
    /// Only pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// A line for each container
    #[arg(long)]
    containers: bool,
    /// The largest first, by cpu or memory
    #[arg(long, value_enum)]
    sort_by: Option<SortBy>,
    /// Without headings
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SortBy {
    Cpu,
    Memory,
}

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
/// 2^20, in which memory is shown.
const MEBIBYTE: i64 = 1024 * 1024;

/// Runs `top`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let (table, subject) = match args.what {
        What::Nodes(args) => {
            let query = Query::new().with_some("labelSelector", args.selector.as_deref());
            let metrics = cluster.list(&query.on(&format!("{METRICS}/nodes"))).await.map_err(unavailable)?;
            let nodes = cluster.list(&query.on("/api/v1/nodes")).await?;
            let keep = |one: &&Value| args.name.as_deref().is_none_or(|name| object::name(one) == name);
            let metrics: Vec<Value> = metrics.iter().filter(keep).cloned().collect();
            (node_rows(&metrics, &nodes, !args.no_headers), "nodes")
        }
        What::Pods(args) => {
            let query = Query::new().with_some("labelSelector", args.selector.as_deref());
            let place = if args.all_namespaces { String::new() } else { format!("/namespaces/{}", cluster.namespace) };
            let mut metrics = cluster.list(&query.on(&format!("{METRICS}{place}/pods"))).await.map_err(unavailable)?;
            metrics.retain(|one| args.name.as_deref().is_none_or(|name| object::name(one) == name));
            (pod_rows(&metrics, &args), "pods")
        }
    };
    if table.is_empty() {
        ctx.output.note(&format!("No metrics of {subject} found."));
        return Ok(0);
    }
    table.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
    Ok(0)
}

fn unavailable(error: Error) -> anyhow::Error {
    if error.is_not_found() {
        return Failure::new("the server offers no metrics")
            .help("a Kubernetes cluster needs metrics-server for this")
            .into();
    }
    error.into()
}

fn node_rows(metrics: &[Value], nodes: &[Value], headers: bool) -> Table {
    let mut table = Table::new();
    if metrics.is_empty() {
        return table;
    }
    if headers {
        table.row(["NAME", "CPU(cores)", "CPU%", "MEMORY(bytes)", "MEMORY%"]);
    }
    for one in metrics {
        let node = nodes.iter().find(|node| object::name(node) == object::name(one)).unwrap_or(&Value::Null);
        let (cpu, memory) = (amount(&one["usage"]["cpu"]), amount(&one["usage"]["memory"]));
        let all = |resource: &str| amount(&node["status"]["allocatable"][resource]);
        let cpu_share = share(cpu.milli_value(), all("cpu").milli_value());
        let memory_share = share(memory.value(), all("memory").value());
        let cells = [object::name(one).to_owned(), cores(cpu), cpu_share, mebibytes(memory), memory_share];
        table.row(cells);
    }
    table
}

fn pod_rows(metrics: &[Value], args: &PodArgs) -> Table {
    let mut rows = Vec::new();
    for pod in metrics {
        let containers = pod["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let usage = |one: &Value| (amount(&one["usage"]["cpu"]), amount(&one["usage"]["memory"]));
        let mut names = vec![object::namespace(pod).to_owned(), object::name(pod).to_owned()];
        if args.containers {
            for one in containers {
                let (cpu, memory) = usage(one);
                rows.push(([names.clone(), vec![str_at(one, &["name"]).to_owned()]].concat(), cpu, memory));
            }
        } else {
            let add = |(cpu, memory): (Quantity, Quantity), one: &Value| (cpu + usage(one).0, memory + usage(one).1);
            let (cpu, memory) = containers.iter().fold((Quantity::ZERO, Quantity::ZERO), add);
            rows.push((std::mem::take(&mut names), cpu, memory));
        }
    }
    match args.sort_by {
        Some(SortBy::Cpu) => rows.sort_by_key(|row| std::cmp::Reverse(row.1)),
        Some(SortBy::Memory) => rows.sort_by_key(|row| std::cmp::Reverse(row.2)),
        None => rows.sort_by(|left, right| left.0.cmp(&right.0)),
    }
    let skip = usize::from(!args.all_namespaces);
    let mut table = Table::new();
    if !args.no_headers && !rows.is_empty() {
        let container = args.containers.then_some("CONTAINER");
        let columns = ["NAMESPACE", "NAME"].into_iter().chain(container).chain(["CPU(cores)", "MEMORY(bytes)"]);
        table.row(columns.skip(skip));
    }
    for (names, cpu, memory) in rows {
        table.row(names.into_iter().chain([cores(cpu), mebibytes(memory)]).skip(skip));
    }
    table
}

fn amount(value: &Value) -> Quantity {
    Quantity::from_value(value).unwrap_or(Quantity::ZERO)
}

fn share(used: i64, all: i64) -> String {
    if all > 0 { format!("{}%", i128::from(used) * 100 / i128::from(all)) } else { "<unknown>".to_owned() }
}

/// Thousandths of a core, rounded up: what is used is never shown as nothing.
fn cores(amount: Quantity) -> String {
    format!("{}m", amount.milli_value())
}

fn mebibytes(amount: Quantity) -> String {
    format!("{}Mi", amount.value() / MEBIBYTE)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_show_their_share_of_what_they_have() {
        let metrics = [json!({"metadata": {"name": "n1"}, "usage": {"cpu": "250m", "memory": "512Mi"}})];
        let nodes = [json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "2", "memory": "2Gi"}}})];
        expect![[r"
            NAME   CPU(cores)   CPU%   MEMORY(bytes)   MEMORY%
            n1     250m         12%    512Mi           25%"]]
        .assert_eq(&node_rows(&metrics, &nodes, true).lines().join("\n"));
    }

    #[test]
    fn pods_are_the_sum_of_their_containers_and_can_be_sorted() {
        let pod = |name: &str, cpu: &str| {
            json!({"metadata": {"name": name, "namespace": "shop"}, "containers": [
                {"name": "a", "usage": {"cpu": cpu, "memory": "10Mi"}}, {"name": "b", "usage": {"cpu": "1n", "memory": "6Mi"}}]})
        };
        let metrics = [pod("web-1", "1m"), pod("web-2", "20m")];
        let args = PodArgs {
            name: None,
            selector: None,
            all_namespaces: true,
            containers: false,
            sort_by: Some(SortBy::Cpu),
            no_headers: false,
        };
        expect![[r"
            NAMESPACE   NAME    CPU(cores)   MEMORY(bytes)
            shop        web-2   21m          16Mi
            shop        web-1   2m           16Mi"]]
        .assert_eq(&pod_rows(&metrics, &args).lines().join("\n"));
    }
}
