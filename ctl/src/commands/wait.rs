//! `wait`: returns when objects have a condition, a field has a value, or they are gone.

use std::{str::FromStr, time::Duration};

use drover_api::object::{self, str_at};
use serde_json::Value;

use super::{delete::gone_by_uid, duration};
use crate::{
    cli::Context,
    cluster::{Cluster, Event, Query, Resource, follow},
    completion,
    failure::Failure,
    input::select,
    jsonpath::Template,
};

/// Wait for a condition, a field or a deletion.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl wait deploy/web --for=condition=Available\n  droverctl wait pods -l app=web --for=delete\n  \
    droverctl wait pod/web-1 --for=jsonpath='{.status.phase}'=Running\n\nAn object that does not exist yet is waited for. Exit codes: 0 met, 2 timed out"
)]
pub(crate) struct Args {
    /// KIND NAME... or KIND/NAME...
    #[arg(required = true, value_name = "OBJECT", add = completion::objects())]
    words: Vec<String>,
    /// condition=NAME[=VALUE], delete, create or jsonpath='{PATH}'[=VALUE]
    #[arg(long = "for", value_name = "WHAT")]
    goal: Goal,
    /// Of all objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All objects of the kind in the namespace
    #[arg(long)]
    all: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
enum Goal {
    Condition { name: String, value: String },
    Field { template: Template, value: Option<String> },
    Create,
    Delete,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "delete" => Ok(Goal::Delete),
            None if text == "create" => Ok(Goal::Create),
            Some(("condition", rest)) => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Goal::Condition { name: name.to_owned(), value: value.to_owned() })
            }
            Some(("jsonpath", rest)) => {
                // The template ends at its last brace; a filter may hold an equals sign.
                let end = rest.rfind('}').map_or_else(|| rest.find('=').unwrap_or(rest.len()), |brace| brace + 1);
                let template = Template::parse(&rest[..end]).map_err(|error| error.to_string())?;
                let value = rest[end..].strip_prefix('=').map(str::to_owned);
                Ok(Goal::Field { template, value })
            }
            Some(_) | None => Err("expected condition=NAME, delete, create or jsonpath='{PATH}'=VALUE".to_owned()),
        }
    }
}

impl Goal {
    /// Whether an object is there.
    fn is_met(&self, found: &Value) -> bool {
        match self {
            Goal::Create => true,
            Goal::Delete => false,
            Goal::Field { template, value } => {
                let shown = template.render(found);
                value.as_ref().map_or(!shown.is_empty(), |value| shown == *value)
            }
            Goal::Condition { name, value } => {
                let number = |path: &[&str]| object::at(found, path).and_then(Value::as_i64);
                // What was said of an older generation is not about this one.
                let observed = number(&["status", "observedGeneration"]);
                let is_current = observed.is_none()
                    || observed >= number(&["metadata", "generation"])
                    || drover_api::mutants::active("C16-old-generation-counts");
                let conditions = object::at(found, &["status", "conditions"]).and_then(Value::as_array);
                let mut conditions = conditions.into_iter().flatten();
                let is_it = |one: &Value| {
                    str_at(one, &["type"]).eq_ignore_ascii_case(name)
                        && str_at(one, &["status"]).eq_ignore_ascii_case(value)
                };
                is_current && conditions.any(is_it)
            }
        }
    }
}

/// Runs `wait`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let deadline = tokio::time::Instant::now() + args.timeout;
    for (resource, name, uid) in subjects(&args, &cluster).await? {
        let label = format!("{}/{name}", resource.label());
        let met = async {
            match args.goal {
                Goal::Delete => gone_by_uid(&cluster, &resource, &cluster.namespace, &name, &uid).await,
                Goal::Condition { .. } | Goal::Field { .. } | Goal::Create => {
                    reached(&cluster, &resource, &name, &args.goal).await;
                }
            }
        };
        if tokio::time::timeout_at(deadline, met).await.is_err() {
            let why = match cluster.find(&resource.object(&cluster.namespace, &name)).await? {
                None => ": it does not exist".to_owned(),
                Some(found) => match crate::explain::deletion(&found) {
                    Some(why) => why,
                    None => crate::explain::pod(&found, &[])
                        .filter(|_| resource.kind == "Pod")
                        .map_or(String::new(), |reason| format!(": it {}", reason.what)),
                },
            };
            ctx.output.note(&format!("error: timed out waiting for {label}{why}"));
            return Ok(2);
        }
        let word = if args.goal == Goal::Delete { "deleted" } else { "condition met" };
        ctx.output.line(format!("{label} {word}"))?;
    }
    Ok(0)
}

async fn subjects(args: &Args, cluster: &Cluster) -> anyhow::Result<Vec<(Resource, String, String)>> {
    let mut subjects = Vec::new();
    for one in select(cluster, &args.words).await? {
        let Some(name) = one.name else {
            if args.selector.is_none() && !args.all {
                return Err(Failure::new("which objects?").help("name them, or pass -l SELECTOR or --all").into());
            }
            let query = Query::new().with_some("labelSelector", args.selector.as_deref());
            let found = cluster.list(&query.on(&one.resource.collection(Some(&cluster.namespace)))).await?;
            if found.is_empty() && args.goal != Goal::Delete {
                return Err(Failure::new("no matching objects").into());
            }
            let read =
                |found: &Value| (one.resource.clone(), object::name(found).to_owned(), object::uid(found).to_owned());
            subjects.extend(found.iter().map(read));
            continue;
        };
        let mut uid = String::new();
        if args.goal == Goal::Delete {
            match cluster.find(&one.resource.object(&cluster.namespace, &name)).await? {
                Some(found) => object::uid(&found).clone_into(&mut uid),
                None => continue,
            }
        }
        subjects.push((one.resource, name, uid));
    }
    Ok(subjects)
}

async fn reached(cluster: &Cluster, resource: &Resource, name: &str, goal: &Goal) {
    let query = Query::new().with("fieldSelector", format!("metadata.name={name}"));
    let mut events = follow(cluster, resource.collection(Some(&cluster.namespace)), query);
    while let Some(event) = events.recv().await {
        let seen = match event {
            Event::Listed(listed) => listed,
            Event::Changed(found) => vec![found],
            Event::Deleted(_) | Event::Lost(_) => Vec::new(),
        };
        if seen.iter().any(|found| object::name(found) == name && goal.is_met(found)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn met(goal: &str, found: &Value) -> bool {
        goal.parse::<Goal>().unwrap().is_met(found)
    }

    #[test]
    fn conditions_count_only_for_the_current_generation() {
        let mut found = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2,
            "conditions": [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "False"}]}});
        assert!(met("condition=Available", &found));
        assert!(met("condition=available=true", &found));
        assert!(met("condition=Progressing=False", &found));
        assert!(!met("condition=Progressing", &found));
        found["status"]["observedGeneration"] = 1.into();
        assert!(!met("condition=Available", &found));
    }

    #[test]
    fn fields_are_compared_as_text_or_merely_have_to_exist() {
        let found = json!({"status": {"phase": "Running", "list": [{"type": "a", "v": 1}]}});
        assert!(met("jsonpath={.status.phase}=Running", &found));
        assert!(!met("jsonpath={.status.phase}=Pending", &found));
        assert!(met("jsonpath={.status.list[?(@.type==\"a\")].v}=1", &found));
        assert!(met("jsonpath={.status.phase}", &found));
        assert!(!met("jsonpath={.status.ip}", &found));
        assert!(met("jsonpath=.status.phase=Running", &found));
    }

    #[test]
    fn goals_that_mean_nothing_are_refused() {
        assert_eq!("delete".parse(), Ok(Goal::Delete));
        for text in ["", "deleted", "Available", "jsonpath={.a"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }
}
