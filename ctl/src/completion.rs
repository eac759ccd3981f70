//! Completion of commands with names that exist right now.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use drover_api::object;

use crate::{
    cli::Context,
    cluster::{Access, Cluster, Query, merged_kubeconfig},
    output::Output,
};

/// How long a person waits for a completion before it is a nuisance.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Names that are offered at most.
const NAMES_MAX: &str = "500";

/// Print the script that completes commands in your shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Add to ~/.bashrc:  source <(droverctl completion bash)")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the line that a shell's start file evaluates; the shell then asks this program for candidates.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments")]
pub(crate) fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let line = match args.shell {
        Shell::Bash => "source <(COMPLETE=bash droverctl)",
        Shell::Zsh => "source <(COMPLETE=zsh droverctl)",
        Shell::Fish => "COMPLETE=fish droverctl | source",
    };
    ctx.output.line(line)?;
    Ok(0)
}

/// Completes the names of contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let kubeconfig = merged_kubeconfig(&typed_access()).unwrap_or_default();
        matching(kubeconfig.contexts.into_iter().map(|named| named.name).collect(), current)
    })
}

/// Completes the names of namespaces.
pub(crate) fn namespaces() -> ArgValueCompleter {
    names_of("namespaces")
}

/// Completes the names of objects of one resource.
pub(crate) fn names_of(kind: &'static str) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| matching(names(kind), current))
}

/// Completes `KIND`, `KIND NAME` and `KIND/NAME`.
pub(crate) fn objects() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let text = current.to_string_lossy();
        if let Some((kind, _)) = text.split_once('/') {
            let prefixed = names(kind).into_iter().map(|name| format!("{kind}/{name}")).collect();
            return matching(prefixed, current);
        }
        // The words before the current one tell whether a kind has been named.
        let words = typed_words();
        let kinds: Vec<String> = drover_api::kinds::all().iter().map(|kind| kind.plural.to_owned()).collect();
        let is_kind = |word: &&String| drover_api::kinds::all().iter().any(|kind| answers(kind, word));
        match words.iter().rev().skip(1).find(is_kind) {
            Some(kind) => matching(names(kind), current),
            None => matching(kinds, current),
        }
    })
}

/// Completes the names of pods, and workloads as `deploy/NAME`.
pub(crate) fn pods_and_workloads() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let text = current.to_string_lossy();
        match text.split_once('/') {
            Some((kind, _)) => {
                matching(names(kind).into_iter().map(|name| format!("{kind}/{name}")).collect(), current)
            }
            None => {
                let kinds = ["deploy/", "svc/", "pod/"].map(str::to_owned);
                matching(names("pods").into_iter().chain(kinds).collect(), current)
            }
        }
    })
}

fn answers(kind: &drover_api::kinds::Kind, word: &str) -> bool {
    kind.plural == word || kind.singular == word || kind.short_names.contains(&word)
}

fn matching(mut names: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names.retain(|name| name.starts_with(current.as_ref()) && name.chars().all(|letter| !letter.is_control()));
    names.sort();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Asks the cluster for names. Nothing is offered when it does not answer in time: a shell is no place for errors.
fn names(kind: &str) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let ask = async {
        let cluster = Cluster::connect(&typed_access(), Output::detect()).await.ok()?;
        let resource = cluster.resource(kind).await.ok()?;
        let path = Query::new().with("limit", NAMES_MAX).on(&resource.collection(Some(&cluster.namespace)));
        let objects = cluster.list(&path).await.ok()?;
        Some(objects.iter().map(|object| object::name(object).to_owned()).collect())
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await.ok().flatten().unwrap_or_default() })
}

/// The words of the command line that is being completed, which the shell passes after `--`.
fn typed_words() -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.skip_while(|word| word != "--").skip(2).collect()
}

/// The access options that were typed before the word that is being completed.
fn typed_access() -> Access {
    access_of(&typed_words())
}

fn access_of(words: &[String]) -> Access {
    let value = |long: &str, short: &str| {
        let prefix = format!("{long}=");
        let after = |word: &String| word == long || (!short.is_empty() && word == short);
        let separate = words.iter().position(after).and_then(|place| words.get(place + 1)).cloned();
        separate.or_else(|| words.iter().find_map(|word| word.strip_prefix(&prefix).map(str::to_owned)))
    };
    Access {
        kubeconfig: value("--kubeconfig", "").map(PathBuf::from),
        context: value("--context", ""),
        namespace: value("--namespace", "-n"),
        allow_exec_plugin: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_typed_so_far_decide_where_names_come_from() {
        let words = ["get", "pods", "-n", "shop", "--context=two", "x"].map(str::to_owned);
        let access = access_of(&words);
        assert_eq!((access.namespace.as_deref(), access.context.as_deref()), (Some("shop"), Some("two")));
        assert!(access.kubeconfig.is_none());
    }

    #[test]
    fn candidates_match_the_start_and_are_sorted() {
        let names = ["web-2", "api", "web-1", "we\u{1b}x"].map(str::to_owned).to_vec();
        let found: Vec<String> = matching(names, OsStr::new("we"))
            .iter()
            .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, ["web-1", "web-2"]);
    }
}
