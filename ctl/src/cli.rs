//! The command line: every command and the options that all of them share.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    cluster::{Access, Cluster},
    commands::*,
    completion,
    output::Output,
};

/// Declares and looks after workloads on a Drover cluster, or any cluster that speaks the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "droverctl", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The kubeconfig file
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", add = completion::contexts())]
    context: Option<String>,
    /// The namespace to work in
    #[arg(short = 'n', long, global = true, value_name = "NAME", add = completion::namespaces())]
    namespace: Option<String>,
    /// Let the kubeconfig run a program to get credentials
    #[arg(long, global = true)]
    allow_exec_plugin: bool,
}

impl Global {
    /// What they say about access.
    pub(crate) fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
            allow_exec_plugin: self.allow_exec_plugin,
        }
    }
}

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// How to reach the cluster.
    pub(crate) access: Access,
    /// Where to print.
    pub(crate) output: Output,
}

impl Context {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(crate) async fn cluster(&self) -> anyhow::Result<Cluster> {
        Cluster::connect(&self.access, self.output).await
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the cluster hold what the manifests say, and wait until it does
    Apply(apply::Args),
    /// Show objects
    Get(get::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Show the logs of a pod or of all pods of a workload
    Logs(logs::Args),
    /// Set the number of replicas
    Scale(scale::Args),
    /// Look after rollouts
    Rollout(rollout::Args),
    /// Print the script that completes commands in your shell
    Completion(completion::Args),
}

impl Command {
    /// Runs the command and returns the exit code.
    ///
    /// # Errors
    /// Whatever kept it from doing its work.
    pub(crate) async fn run(self, ctx: &Context) -> anyhow::Result<u8> {
        match self {
            Command::Apply(args) => apply::run(args, ctx).await,
            Command::Get(args) => get::run(args, ctx).await,
            Command::Delete(args) => delete::run(args, ctx).await,
            Command::Logs(args) => logs::run(args, ctx).await,
            Command::Scale(args) => scale::run(args, ctx).await,
            Command::Rollout(args) => rollout::run(args, ctx).await,
            Command::Completion(args) => completion::run(args, ctx),
        }
    }
}
