//! `config`: what the kubeconfig says, and which of its contexts is in use.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    cli::Context,
    cluster::{kubeconfig_paths, merged_kubeconfig},
    completion,
    failure::Failure,
    input::{parse_yaml, to_yaml},
    output::Table,
};

/// Look at the kubeconfig.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print it, without its secrets
    View,
    /// Print the context in use
    CurrentContext,
    /// List the contexts
    GetContexts,
    /// Use another context from now on
    UseContext {
        /// Its name
        #[arg(add = completion::contexts())]
        name: String,
    },
}

/// Fields that are never printed.
const SECRETS: [&str; 4] = ["token", "password", "client-key-data", "client-certificate-data"];

/// Runs `config`.
pub(crate) fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let merged = merged_kubeconfig(&ctx.access)?;
    match args.action {
        Action::View => {
            let mut document = serde_json::to_value(&merged)?;
            redact(&mut document);
            ctx.output.text(&to_yaml(&document))?;
        }
        Action::CurrentContext => match &merged.current_context {
            Some(current) => ctx.output.line(current.as_str())?,
            None => return Err(Failure::new("no context is in use").help("droverctl config use-context NAME").into()),
        },
        Action::GetContexts => {
            let mut table = Table::new();
            table.row(["CURRENT", "NAME", "CLUSTER", "USER", "NAMESPACE"]);
            for named in &merged.contexts {
                let mark = if merged.current_context.as_ref() == Some(&named.name) { "*" } else { "" };
                let inner = named.context.clone().unwrap_or_default();
                let namespace = inner.namespace.unwrap_or_default();
                table.row([
                    mark.to_owned(),
                    named.name.clone(),
                    inner.cluster,
                    inner.user.unwrap_or_default(),
                    namespace,
                ]);
            }
            table.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
        }
        Action::UseContext { name } => {
            if !merged.contexts.iter().any(|named| named.name == name) {
                return Err(Failure::new(format!("context \"{name}\" does not exist"))
                    .help("droverctl config get-contexts")
                    .into());
            }
            let file = use_context(&kubeconfig_paths(&ctx.access), &name)?;
            ctx.output.line(format!("context \"{name}\" is now in use ({})", file.display()))?;
        }
    }
    Ok(0)
}

/// Replaces every secret, wherever it stands.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if SECRETS.contains(&key.as_str()) && !value.is_null() {
                    *value = "REDACTED".into();
                } else if key == "certificate-authority-data" && !value.is_null() {
                    *value = "DATA+OMITTED".into();
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes the choice into the file that holds the current one, else into the first, replacing it in one step.
fn use_context(paths: &[PathBuf], name: &str) -> anyhow::Result<PathBuf> {
    let mut chosen: Option<(PathBuf, Value)> = None;
    for path in paths {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| shown.clone())?;
        let document = parse_yaml(&text).with_context(|| shown)?.into_iter().next().unwrap_or_default();
        let holds = document["current-context"].as_str().is_some_and(|current| !current.is_empty());
        if chosen.is_none() || holds {
            chosen = Some((path.clone(), document));
        }
        if holds {
            break;
        }
    }
    let Some((path, mut document)) = chosen else { return Err(Failure::new("no kubeconfig file to write").into()) };
    document["current-context"] = name.into();
    write_private(&path, &to_yaml(&document)).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    // A link is followed: it is the file behind it that is to change.
    let path = std::fs::canonicalize(path)?;
    let mut temporary = path.clone().into_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_redacted_wherever_they_stand() {
        let mut document = json!({"users": [{"name": "u", "user": {"token": "t", "client-key-data": "k", "username": "n"}}],
            "clusters": [{"cluster": {"certificate-authority-data": "c"}}]});
        redact(&mut document);
        assert_eq!(
            document,
            json!({"users": [{"name": "u", "user": {"token": "REDACTED", "client-key-data": "REDACTED", "username": "n"}}],
                "clusters": [{"cluster": {"certificate-authority-data": "DATA+OMITTED"}}]})
        );
    }

    #[test]
    fn the_file_that_holds_the_current_context_is_changed_and_nothing_else_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&first, "kind: Config\ncontexts: []\n").unwrap();
        std::fs::write(&second, "kind: Config\ncurrent-context: old\nusers: [{name: u, user: {token: t}}]\n").unwrap();
        assert_eq!(use_context(&[first.clone(), second.clone()], "new").unwrap(), second);
        let written = parse_yaml(&std::fs::read_to_string(&second).unwrap()).unwrap();
        assert_eq!(
            written,
            [json!({"kind": "Config", "current-context": "new", "users": [{"name": "u", "user": {"token": "t"}}]})]
        );
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "kind: Config\ncontexts: []\n");
    }
}
