//! `taint`: adds, changes and removes the taints of nodes.

use drover_api::object;
use serde_json::{Value, json};

use super::metadata::{PairArgs, subjects};
use crate::{
    cli::Context,
    cluster::{Cluster, PatchType, Query},
    failure::Failure,
};

/// What a taint does to pods that do not tolerate it.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Others write a node's taints, too; how often that is met with another try.
const ATTEMPTS: usize = 5;

/// Keep pods off nodes that do not tolerate it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "KEY[=VALUE]:EFFECT adds a taint, KEY[:EFFECT]- removes it; EFFECT is NoSchedule, PreferNoSchedule or NoExecute.\n\n\
    Examples:\n  droverctl taint node n1 dedicated=web:NoSchedule\n  droverctl taint node n1 dedicated-"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pairs: PairArgs,
}

/// One change to a node's taints.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Add {
        key: String,
        value: String,
        effect: String,
    },
    /// With an effect only that taint, without all of the key.
    Remove {
        key: String,
        effect: Option<String>,
    },
}

/// Runs `taint`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let is_change = |word: &String| word.contains(':') || word.contains('=') || word.ends_with('-');
    let (changes, words): (Vec<String>, Vec<String>) = args.pairs.words.iter().cloned().partition(is_change);
    let changes: Vec<Change> = changes.iter().map(|word| parse(word)).collect::<Result<_, _>>()?;
    if changes.is_empty() {
        return Err(Failure::new("nothing to change").help("pass KEY=VALUE:EFFECT to add and KEY- to remove").into());
    }
    let cluster = ctx.cluster().await?;
    for (path, label, live) in subjects(&args.pairs, &cluster, &words).await? {
        if object::str_at(&live, &["kind"]) != "Node" {
            return Err(Failure::new(format!("{label} is no node: only nodes have taints")).into());
        }
        let changed =
            apply(&cluster, &path, live, &changes, &args.pairs).await.map_err(|error| error.context(label.clone()))?;
        let done = if changed { "tainted" } else { "not tainted" };
        ctx.output.line(format!("{label} {done}{}", args.pairs.dry_run.suffix()))?;
    }
    Ok(0)
}

/// Returns whether there was anything to change.
async fn apply(
    cluster: &Cluster,
    path: &str,
    mut live: Value,
    changes: &[Change],
    args: &PairArgs,
) -> anyhow::Result<bool> {
    let mut attempt = 1;
    loop {
        let before = object::at(&live, &["spec", "taints"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let after = plan(&before, changes, args.overwrite)?;
        if after == before {
            return Ok(false);
        }
        let taints = if after.is_empty() { Value::Null } else { Value::Array(after) };
        let patch = json!({
            "metadata": {"resourceVersion": object::str_at(&live, &["metadata", "resourceVersion"])},
            "spec": {"taints": taints},
        });
        let query = Query::new().with_some("dryRun", args.dry_run.parameter());
        match cluster.patch(&query.on(path), PatchType::Merge, &patch).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
        live = cluster.get(path).await?;
    }
}

fn parse(word: &str) -> Result<Change, Failure> {
    let wrong = |why: String| Failure::new(format!("taint \"{word}\": {why}"));
    let known = |effect: &str| match EFFECTS.contains(&effect) {
        true => Ok(effect.to_owned()),
        false => Err(wrong(format!("\"{effect}\" is no effect")).help(format!("one of {}", EFFECTS.join(", ")))),
    };
    let named = |key: &str| match key.is_empty() {
        true => Err(wrong("it has no key".to_owned())),
        false => Ok(key.to_owned()),
    };
    if let Some(rest) = word.strip_suffix('-') {
        let (key, effect) = rest.split_once(':').map_or((rest, None), |(key, effect)| (key, Some(effect)));
        let key = key.split_once('=').map_or(key, |(key, _)| key);
        return Ok(Change::Remove { key: named(key)?, effect: effect.map(known).transpose()? });
    }
    let (pair, effect) = word.rsplit_once(':').ok_or_else(|| {
        wrong("it has no effect".to_owned()).help(format!("write KEY=VALUE:EFFECT with one of {}", EFFECTS.join(", ")))
    })?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok(Change::Add { key: named(key)?, value: value.to_owned(), effect: known(effect)? })
}

/// The taints after the changes. Those that are not spoken of stay as they are and where they are.
fn plan(before: &[Value], changes: &[Change], overwrite: bool) -> Result<Vec<Value>, Failure> {
    let mut taints = before.to_vec();
    for change in changes {
        match change {
            Change::Remove { key, effect } => {
                let is_meant = |taint: &Value| {
                    let of_effect = effect.as_deref().is_none_or(|effect| object::str_at(taint, &["effect"]) == effect);
                    object::str_at(taint, &["key"]) == *key && of_effect
                };
                let count = taints.len();
                taints.retain(|taint| !is_meant(taint));
                if taints.len() == count {
                    return Err(Failure::new(format!("there is no taint \"{key}\" to remove")));
                }
            }
            Change::Add { key, value, effect } => {
                let mut wanted = json!({"key": key, "effect": effect});
                if !value.is_empty() {
                    wanted["value"] = json!(value);
                }
                let same = |taint: &&mut Value| {
                    object::str_at(taint, &["key"]) == *key && object::str_at(taint, &["effect"]) == *effect
                };
                match taints.iter_mut().find(same) {
                    None => taints.push(wanted),
                    Some(taint) if object::str_at(taint, &["value"]) == *value => {}
                    Some(taint) if overwrite => *taint = wanted,
                    Some(taint) => {
                        let value = object::str_at(taint, &["value"]);
                        let message = format!("\"{key}:{effect}\" already has the value \"{value}\"");
                        return Err(Failure::new(message).help("add --overwrite to change it"));
                    }
                }
            }
        }
    }
    Ok(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(words: &[&str], overwrite: bool) -> Result<String, String> {
        let before = [
            json!({"key": "dedicated", "value": "web", "effect": "NoSchedule"}),
            json!({"key": "dedicated", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}),
        ];
        let changes = words.iter().map(|word| parse(word)).collect::<Result<Vec<_>, _>>();
        let taints =
            changes.and_then(|changes| plan(&before, &changes, overwrite)).map_err(|failure| failure.to_string())?;
        let text = |taint: &Value| {
            let part = |name| object::str_at(taint, &[name]);
            format!("{}={}:{}", part("key"), part("value"), part("effect"))
        };
        Ok(taints.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn taints_are_added_removed_and_only_overwritten_on_request() {
        let (web, gone) = ("dedicated=web:NoSchedule", "dedicated=:NoExecute");
        assert_eq!(changed(&["gpu:NoSchedule"], false).unwrap(), format!("{web} {gone} gpu=:NoSchedule"));
        assert_eq!(changed(&[web], false).unwrap(), format!("{web} {gone}"), "it is there");
        assert_eq!(changed(&["dedicated-"], false).unwrap(), "");
        assert_eq!(changed(&["dedicated:NoExecute-"], false).unwrap(), web);
        assert_eq!(changed(&["dedicated=web:NoSchedule-"], false).unwrap(), gone);
        assert!(changed(&["dedicated=api:NoSchedule"], false).unwrap_err().contains("already has the value \"web\""));
        assert_eq!(changed(&["dedicated=api:NoSchedule"], true).unwrap(), format!("dedicated=api:NoSchedule {gone}"));
    }

    #[test]
    fn what_is_no_taint_is_refused_with_the_word_and_the_reason() {
        for (word, why) in [
            ("dedicated=web", "no effect"),
            ("dedicated=web:Never", "\"Never\" is no effect"),
            ("=web:NoSchedule", "no key"),
            ("dedicated:Never-", "\"Never\" is no effect"),
            ("-", "no key"),
            ("other-", "no taint \"other\" to remove"),
        ] {
            let failure = changed(&[word], false).unwrap_err();
            assert!(failure.contains(why), "{word}: {failure}");
        }
    }
}
