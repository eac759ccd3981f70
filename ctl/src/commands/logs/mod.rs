//! `logs`: what containers print, of one pod or of all pods of a workload at once.

mod streams;

use std::time::Duration;

use drover_api::object;

use super::{
    duration,
    pods::{self, Pods},
};
use crate::{cli::Context, cluster::Query, completion, failure::Failure};
use streams::{Source, follow_new, print_all};

/// Show the logs of a pod or of all pods of a workload.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  droverctl logs web-1 -f\n  droverctl logs deploy/web --tail=20 --since=5m\n  \
    droverctl logs web-1 -c init --previous")]
pub(crate) struct Args {
    /// A pod, or deploy/NAME, svc/NAME, rs/NAME
    #[arg(value_name = "POD", required_unless_present = "selector", add = completion::pods_and_workloads())]
    object: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER", conflicts_with_all = ["container", "all_containers"])]
    positional_container: Option<String>,
    /// Of all pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "object")]
    selector: Option<String>,
    /// Go on as more is printed, by new pods too
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end; -1 for all
    #[arg(long, value_name = "LINES", default_value_t = -1)]
    tail: i64,
    /// Only what was printed since so long ago
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only what was printed since then: 2026-01-02T15:04:05Z
    #[arg(long, value_name = "TIME")]
    since_time: Option<String>,
    /// Of the run before the last restart
    #[arg(short, long)]
    previous: bool,
    /// The container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Of all containers, init containers too
    #[arg(long)]
    all_containers: bool,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    /// With the pod and container of each line, or without
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    prefix: Option<bool>,
}

impl Args {
    fn query(&self) -> Query {
        let mut query = Query::new();
        if self.follow {
            query = query.with("follow", "true");
        }
        if self.previous {
            query = query.with("previous", "true");
        }
        if self.timestamps {
            query = query.with("timestamps", "true");
        }
        if self.tail >= 0 {
            query = query.with("tailLines", self.tail.to_string());
        }
        if let Some(since) = self.since {
            query = query.with("sinceSeconds", since.as_secs().max(1).to_string());
        }
        query.with_some("sinceTime", self.since_time.as_deref())
    }

    fn container(&self) -> Option<&str> {
        self.container.as_deref().or(self.positional_container.as_deref())
    }

    /// The containers of a pod that are meant.
    fn containers(&self, pod: &serde_json::Value) -> Result<Vec<String>, Failure> {
        let (init, main) = pods::containers(pod);
        if self.all_containers {
            return Ok(init.into_iter().chain(main).map(str::to_owned).collect());
        }
        match self.container() {
            None => Ok(vec![pods::default_container(pod)]),
            Some(name) if init.contains(&name) || main.contains(&name) => Ok(vec![name.to_owned()]),
            Some(name) => {
                let all: Vec<&str> = init.into_iter().chain(main).collect();
                let message = format!("pod \"{}\" has no container \"{name}\"", object::name(pod));
                Err(Failure::new(message).help(format!("it has: {}", all.join(", "))))
            }
        }
    }
}

/// Runs `logs`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let found = match (&args.object, &args.selector) {
        (Some(word), _) => pods::find(&cluster, word).await?,
        (None, selector) => {
            let selector = selector.clone().unwrap_or_default();
            Pods {
                found: pods::list(&cluster, &selector).await?,
                selector: Some(selector),
                label: "the selector".to_owned(),
            }
        }
    };
    let mut sources = Vec::new();
    for pod in &found.found {
        for container in args.containers(pod)? {
            sources.push(Source::new(pod, container));
        }
    }
    if sources.is_empty() && !args.follow {
        return Err(Failure::new(format!("{} has no pods", found.label)).help("see 'droverctl events'").into());
    }
    let several = found.selector.is_some() || sources.len() > 1;
    let prefix = args.prefix.unwrap_or(several);
    if args.follow
        && let Some(selector) = found.selector.clone()
    {
        let choose = |pod: &serde_json::Value| args.containers(pod).unwrap_or_default();
        return follow_new(&cluster, ctx.output, &args.query(), &selector, prefix, choose).await;
    }
    print_all(&cluster, ctx.output, &args.query(), sources, prefix).await
}
