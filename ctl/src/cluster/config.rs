//! Which cluster to talk to and as whom: the ordinary kubeconfig.
//!
//! A kubeconfig is read with suspicion: it may come from anybody, and one that runs a program to get credentials does so
//! only when the user allows it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};

use crate::failure::Failure;

/// Where `drover up` leaves the administrator's kubeconfig.
const SERVER_KUBECONFIG: &str = "/var/lib/drover/admin.kubeconfig";
/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// What the command line says about access.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// `--kubeconfig`.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub(crate) context: Option<String>,
    /// `--namespace`.
    pub(crate) namespace: Option<String>,
    /// `--allow-exec-plugin`.
    pub(crate) allow_exec_plugin: bool,
}

/// A connection's configuration and the name of the context it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What kube connects with.
    pub(crate) config: kube::Config,
    /// The context in use.
    pub(crate) context: String,
    /// The namespace commands work in.
    pub(crate) namespace: String,
}

/// Reads the kubeconfig and picks the context.
///
/// # Errors
/// No kubeconfig, an unreadable one, a missing context, or one that wants to run a program.
pub(crate) async fn load(access: &Access) -> anyhow::Result<Loaded> {
    let kubeconfig = merged(access)?;
    let context = access.context.clone().or_else(|| kubeconfig.current_context.clone()).unwrap_or_default();
    if context.is_empty() {
        return Err(Failure::new("the kubeconfig has no current context").help("pass --context").into());
    }
    let Some(named) = kubeconfig.contexts.iter().find(|named| named.name == context) else {
        let known: Vec<&str> = kubeconfig.contexts.iter().map(|named| named.name.as_str()).collect();
        let help = format!("the kubeconfig has: {}", known.join(", "));
        return Err(Failure::new(format!("context \"{context}\" does not exist")).help(help).into());
    };
    let user = named.context.as_ref().and_then(|context| context.user.clone()).unwrap_or_default();
    let auth = kubeconfig.auth_infos.iter().find(|named| named.name == user).and_then(|named| named.auth_info.as_ref());
    if let Some(program) = auth.and_then(program_of)
        && !access.allow_exec_plugin
        && !drover_api::mutants::active("A69-kubeconfig-runs-programs")
    {
        let message =
            format!("user \"{user}\" of the kubeconfig wants to run the program \"{program}\" to get credentials");
        return Err(Failure::new(message).help("if you trust this kubeconfig, add --allow-exec-plugin").into());
    }
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("kubeconfig")?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A user who waits wants to hear of a failure, not sit through hidden retries; evictions rely on seeing 429.
    config.default_retry = false;
    let namespace = access.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok(Loaded { config, context, namespace })
}

/// The program that a user entry would run, if any.
fn program_of(auth: &AuthInfo) -> Option<String> {
    if let Some(exec) = &auth.exec {
        return Some(exec.command.clone().unwrap_or_default());
    }
    let provider = auth.auth_provider.as_ref()?;
    Some(provider.config.get("cmd-path").cloned().unwrap_or_else(|| provider.name.clone()))
}

/// Reads and merges the kubeconfig files that apply: `--kubeconfig`, else `$KUBECONFIG`, else `~/.kube/config`, else
/// the one of a server on this machine.
///
/// # Errors
/// When none exists or one cannot be read.
pub(crate) fn merged(access: &Access) -> anyhow::Result<Kubeconfig> {
    let paths = kubeconfig_paths(access);
    let mut merged = Kubeconfig::default();
    for path in &paths {
        let read = Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {}", path.display()))?;
        merged = merged.merge(read).with_context(|| format!("kubeconfig {}", path.display()))?;
    }
    if paths.is_empty() {
        let help = "pass --kubeconfig, set KUBECONFIG, or start a server here with 'drover up'";
        return Err(Failure::new("no kubeconfig found").help(help).into());
    }
    Ok(merged)
}

/// Returns the files that [`merged`] reads, in order.
pub(crate) fn kubeconfig_paths(access: &Access) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    candidates(access.kubeconfig.as_deref(), std::env::var_os("KUBECONFIG").as_deref(), home.as_deref())
}

fn candidates(flag: Option<&Path>, variable: Option<&std::ffi::OsStr>, home: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = flag {
        return vec![path.to_owned()];
    }
    let listed: Vec<PathBuf> = variable
        .map(|list| std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if !listed.is_empty() {
        // As kubectl: files that do not exist are skipped, unless none of them does.
        let present: Vec<PathBuf> = listed.iter().filter(|path| path.exists()).cloned().collect();
        return if present.is_empty() { listed } else { present };
    }
    let own = home.map(|home| home.join(".kube/config"));
    let fallbacks = own.into_iter().chain([PathBuf::from(SERVER_KUBECONFIG)]);
    fallbacks.filter(|path| std::fs::File::open(path).is_ok()).take(1).collect()
}

#[cfg(test)]
mod tests;
