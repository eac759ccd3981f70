//! `label` and `annotate`: adds, changes and removes pairs of an object's metadata.

use drover_api::object;
use serde_json::{Map, Value, json};

use crate::{
    cli::Context,
    cluster::{Cluster, PatchType, Query},
    completion,
    failure::Failure,
    input::select,
};

/// What the commands take that change pairs; `taint` is one of them.
#[derive(Debug, clap::Args)]
pub(super) struct PairArgs {
    /// KIND/NAME... or KIND NAME..., then KEY=VALUE... or KEY- to remove
    #[arg(required = true, num_args = 2.., value_name = "OBJECT KEY=VALUE", add = completion::objects())]
    pub(super) words: Vec<String>,
    /// Change pairs that are there already
    #[arg(long)]
    pub(super) overwrite: bool,
    /// On all objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// On all objects of the kind in the namespace
    #[arg(long)]
    all: bool,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = super::DryRun::None)]
    pub(super) dry_run: super::DryRun,
}

/// Add, change or remove labels.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl label pod/web-1 tier=front\n  droverctl label node n1 zone- --overwrite"
)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    pairs: PairArgs,
}

/// Add, change or remove annotations.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  droverctl annotate deploy/web kubernetes.io/change-cause='new logo'\n  droverctl annotate pod/web-1 note-"
)]
pub(crate) struct AnnotateArgs {
    #[command(flatten)]
    pairs: PairArgs,
}

/// Runs `label`.
pub(crate) async fn label(args: LabelArgs, ctx: &Context) -> anyhow::Result<u8> {
    edit(args.pairs, ctx, "labels", "labeled").await
}

/// Runs `annotate`.
pub(crate) async fn annotate(args: AnnotateArgs, ctx: &Context) -> anyhow::Result<u8> {
    edit(args.pairs, ctx, "annotations", "annotated").await
}

async fn edit(args: PairArgs, ctx: &Context, field: &str, done: &str) -> anyhow::Result<u8> {
    let (pairs, words): (Vec<String>, Vec<String>) = args.words.iter().cloned().partition(|word| is_pair(word));
    if pairs.is_empty() {
        return Err(Failure::new("nothing to change").help("pass KEY=VALUE to set and KEY- to remove").into());
    }
    let cluster = ctx.cluster().await?;
    for (path, label, live) in subjects(&args, &cluster, &words).await? {
        let change = change(&live, field, &pairs, args.overwrite);
        let change = change.map_err(|failure| anyhow::Error::from(failure).context(label.clone()))?;
        if change.is_empty() {
            ctx.output.line(format!("{label} not {done}"))?;
            continue;
        }
        let patch = json!({"metadata": {field: change}});
        let query = Query::new().with_some("dryRun", args.dry_run.parameter());
        cluster.patch(&query.on(&path), PatchType::Merge, &patch).await?;
        ctx.output.line(format!("{label} {done}{}", args.dry_run.suffix()))?;
    }
    Ok(0)
}

fn is_pair(word: &str) -> bool {
    word.contains('=') || word.ends_with('-')
}

/// The objects that are named or selected: path, label and what they are now.
pub(super) async fn subjects(
    args: &PairArgs,
    cluster: &Cluster,
    words: &[String],
) -> anyhow::Result<Vec<(String, String, Value)>> {
    let mut found = Vec::new();
    for one in select(cluster, words).await? {
        let live = match &one.name {
            Some(name) => vec![cluster.get(&one.resource.object(&cluster.namespace, name)).await?],
            None if args.all || args.selector.is_some() => {
                let query = Query::new().with_some("labelSelector", args.selector.as_deref());
                cluster.list(&query.on(&one.resource.collection(Some(&cluster.namespace)))).await?
            }
            None => return Err(Failure::new("which objects?").help("name them, or pass -l SELECTOR or --all").into()),
        };
        for live in live {
            let name = object::name(&live);
            let path = one.resource.object(&cluster.namespace, name);
            found.push((path, format!("{}/{name}", one.resource.label()), live));
        }
    }
    Ok(found)
}

/// The pairs that differ from what the object has; null removes one.
fn change(live: &Value, field: &str, pairs: &[String], overwrite: bool) -> Result<Map<String, Value>, Failure> {
    let mut change = Map::new();
    for pair in pairs {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (pair.trim_end_matches('-'), None),
        };
        let current = object::at(live, &["metadata", field, key]).and_then(Value::as_str);
        match (current, value) {
            (current, value) if current == value => {}
            (Some(current), Some(_)) if !overwrite => {
                let message = format!("\"{key}\" already has the value \"{current}\"");
                return Err(Failure::new(message).help("add --overwrite to change it"));
            }
            (_, value) => {
                change.insert(key.to_owned(), value.map_or(Value::Null, Value::from));
            }
        }
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(pairs: &[&str], overwrite: bool) -> Result<String, String> {
        let live = json!({"metadata": {"labels": {"app": "web", "a.b/c": "x"}}});
        let pairs: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
        let change = change(&live, "labels", &pairs, overwrite);
        change.map(|change| Value::Object(change).to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn pairs_are_added_removed_and_only_overwritten_on_request() {
        assert_eq!(changed(&["tier=front", "a.b/c-"], false).unwrap(), r#"{"a.b/c":null,"tier":"front"}"#);
        assert_eq!(changed(&["app=web", "missing-"], false).unwrap(), "{}");
        assert_eq!(changed(&["app=api"], false).unwrap_err(), "\"app\" already has the value \"web\"");
        assert_eq!(changed(&["app=api"], true).unwrap(), r#"{"app":"api"}"#);
        assert_eq!(changed(&["empty="], false).unwrap(), r#"{"empty":""}"#);
    }
}
