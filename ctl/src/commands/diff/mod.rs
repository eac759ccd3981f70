//! `diff`: what `apply` would change, as the server would store it.

mod unified;

use serde_json::Value;

use super::{annotations::LAST_APPLIED, apply};
use crate::{
    cli::Context,
    cluster::{Cluster, Query},
    failure::Failure,
    input::{SourceArgs, by_dependency, read_documents, to_yaml},
    output::{Output, Style, Text},
};
use apply::{FIELD_MANAGER, Item, Write, plan, resolve};
use unified::{Kind, unified};

/// Show what apply would change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 no difference, 1 differences, 2 and above: an error")]
pub(crate) struct Args {
    #[command(flatten)]
    sources: SourceArgs,
}

/// What `diff` exits with when it could not compare.
const TROUBLE: u8 = 2;

/// Runs `diff`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    match compare(args, ctx).await {
        Ok(differs) => Ok(u8::from(differs)),
        // Exit code 1 means differences: an error needs another one, unless only our reader went away.
        Err(error) => {
            let report = crate::failure::report(&error);
            report.lines.iter().for_each(|line| ctx.output.note(line));
            Ok(if report.code == 0 { 0 } else { TROUBLE })
        }
    }
}

async fn compare(args: Args, ctx: &Context) -> anyhow::Result<bool> {
    let mut documents = read_documents(&args.sources).await?;
    by_dependency(&mut documents);
    let cluster = ctx.cluster().await?;
    let mut differs = false;
    for item in resolve(&cluster, ctx, documents).await? {
        let live = cluster.find(&item.path()).await?;
        let would_be = would_be(&cluster, &item, live.as_ref()).await?;
        let (before, after) = (live.map(comparable), would_be.map(comparable));
        if let Some(after) = after {
            differs |= print(ctx.output, &item, before.as_ref(), &after)?;
        }
    }
    Ok(differs)
}

/// The object as it would be stored; `None` when nothing would be written.
async fn would_be(cluster: &Cluster, item: &Item, live: Option<&Value>) -> anyhow::Result<Option<Value>> {
    let query =
        Query::new().with("fieldManager", FIELD_MANAGER).with("fieldValidation", "Strict").with("dryRun", "All");
    let planned = plan(&item.resource, &item.manifest, live);
    let tried = match planned.map_err(|problem| Failure::new(format!("{}: {problem}", item.place)))? {
        Write::Nothing => return Ok(None),
        Write::Create(object) => cluster.create(&query.on(&item.collection()), &object).await,
        Write::Patch(kind, patch) => cluster.patch(&query.on(&item.path()), kind, &patch).await,
    };
    match tried {
        Ok(stored) => Ok(Some(stored)),
        // In a namespace that the same manifests make: shown as written.
        Err(error) if error.is_not_found() && live.is_none() => Ok(Some(item.manifest.clone())),
        Err(error) => Err(item.blame(&error)),
    }
}

/// Leaves out what differs without a meaning.
fn comparable(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for noise in ["resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"] {
            metadata.remove(noise);
        }
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let is_empty = annotations.is_some_and(|annotations| {
            annotations.remove(LAST_APPLIED);
            annotations.is_empty()
        });
        if is_empty {
            metadata.remove("annotations");
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if object["kind"] == "Secret" {
        hide_secrets(&mut object);
    }
    object
}

/// Secrets are compared but not shown: a hash of the length and content would still tell too much, so only a mark of
/// equality is left.
fn hide_secrets(object: &mut Value) {
    for field in ["data", "stringData"] {
        for value in object[field].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
            let text = value.as_str().unwrap_or_default();
            *value = format!("*** ({:08x})", fingerprint(text)).into();
        }
        if object[field].is_null()
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove(field);
        }
    }
}

/// Tells two values apart within one run: keyed by a random state, so that it cannot be looked up.
fn fingerprint(text: &str) -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    static KEY: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    let hash = KEY.get_or_init(RandomState::new).hash_one(text);
    u32::try_from(hash >> 32).unwrap_or(0)
}

fn print(output: Output, item: &Item, before: Option<&Value>, after: &Value) -> anyhow::Result<bool> {
    let old = before.map_or(String::new(), to_yaml);
    let lines = unified(&old, &to_yaml(after));
    if lines.is_empty() {
        return Ok(false);
    }
    let name = if item.namespace.is_empty() { item.label() } else { format!("{} -n {}", item.label(), item.namespace) };
    output
        .line(Text::styled(Style::Bold, format!("--- {} live", if before.is_some() { &name } else { "/dev/null" })))?;
    output.line(Text::styled(Style::Bold, format!("+++ {name} applied")))?;
    for line in lines {
        let style = match line.kind {
            Kind::Hunk => Style::Cyan,
            Kind::Same => Style::Plain,
            Kind::Removed => Style::Red,
            Kind::Added => Style::Green,
        };
        output.line(Text::styled(style, line.text))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_writes_by_itself_is_no_difference() {
        let live = json!({"kind": "ConfigMap", "metadata": {"name": "a", "uid": "u", "resourceVersion": "5",
            "annotations": {LAST_APPLIED: "{}"}}, "data": {"x": "1"}, "status": {}});
        assert_eq!(comparable(live), json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}));
    }

    #[test]
    fn secrets_are_never_shown_but_equal_ones_look_equal() {
        let secret = |value: &str| comparable(json!({"kind": "Secret", "metadata": {}, "data": {"p": value}}));
        assert!(!secret("aHVudGVyMg==").to_string().contains("aHVudGVy"));
        assert_eq!(secret("a"), secret("a"));
        assert_ne!(secret("a"), secret("b"));
    }
}
