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
    /// Show everything about one object
    Describe(describe::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Show what apply would change; exits with 1 when it would
    Diff(diff::Args),
    /// Show the logs of a pod or of all pods of a workload
    Logs(logs::Args),
    /// Run a command in a container
    Exec(exec::Args),
    /// Set the number of replicas
    Scale(scale::Args),
    /// Look after rollouts
    Rollout(rollout::Args),
    /// Change a field of an object
    Set(set::Args),
    /// Wait for a condition, a field or a deletion
    Wait(wait::Args),
    /// Show what happened
    Events(events::Args),
    /// Say where a pod is and why, and what it waits for
    Why(why::Args),
    /// Show what nodes and pods use
    Top(top::Args),
    /// Add, change or remove labels
    Label(metadata::LabelArgs),
    /// Add, change or remove annotations
    Annotate(metadata::AnnotateArgs),
    /// Show what the load balancer in front of Ingresses is made of
    Lb(lb::Args),
    /// Add, change or remove taints of nodes
    Taint(taint::Args),
    /// Keep new pods off a node
    Cordon(node::CordonArgs),
    /// Let pods on a node again
    Uncordon(node::CordonArgs),
    /// Move all pods off a node
    Drain(node::DrainArgs),
    /// Check the cluster against the CIS benchmark, show who holds dangerous rights, verify an audit log
    Audit(audit::Args),
    /// Look after the keys that Secrets are sealed with at rest
    Sealing(sealing::Args),
    /// Make, list and revoke the tokens with which hosts join as nodes
    Token(token::Args),
    /// Write a backup of the cluster into a file
    Backup(backup::Args),
    /// Restore the cluster from a backup
    Restore(restore::Args),
    /// Create a token
    Create(create::Args),
    /// Show where the server is
    ClusterInfo(info::ClusterInfoArgs),
    /// Show the versions of this tool and of the server
    Version(info::VersionArgs),
    /// List the kinds that the server serves
    ApiResources(info::ApiResourcesArgs),
    /// Look at the kubeconfig
    Config(kubeconfig::Args),
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
            Command::Describe(args) => describe::run(args, ctx).await,
            Command::Delete(args) => delete::run(args, ctx).await,
            Command::Diff(args) => diff::run(args, ctx).await,
            Command::Logs(args) => logs::run(args, ctx).await,
            Command::Exec(args) => exec::run(args, ctx).await,
            Command::Scale(args) => scale::run(args, ctx).await,
            Command::Rollout(args) => rollout::run(args, ctx).await,
            Command::Set(args) => set::run(args, ctx).await,
            Command::Wait(args) => wait::run(args, ctx).await,
            Command::Events(args) => events::run(args, ctx).await,
            Command::Why(args) => why::run(args, ctx).await,
            Command::Top(args) => top::run(args, ctx).await,
            Command::Label(args) => metadata::label(args, ctx).await,
            Command::Annotate(args) => metadata::annotate(args, ctx).await,
            Command::Lb(args) => lb::run(args, ctx).await,
            Command::Taint(args) => taint::run(args, ctx).await,
            Command::Cordon(args) => node::cordon(args, ctx, true).await,
            Command::Uncordon(args) => node::cordon(args, ctx, false).await,
            Command::Drain(args) => node::drain(args, ctx).await,
            Command::Audit(args) => audit::run(args, ctx).await,
            Command::Sealing(args) => sealing::run(args, ctx).await,
            Command::Token(args) => token::run(args, ctx).await,
            Command::Backup(args) => backup::run(args, ctx).await,
            Command::Restore(args) => restore::run(args, ctx).await,
            Command::Create(args) => create::run(args, ctx).await,
            Command::ClusterInfo(args) => info::cluster_info(args, ctx).await,
            Command::Version(args) => info::version(args, ctx).await,
            Command::ApiResources(args) => info::api_resources(args, ctx).await,
            Command::Config(args) => kubeconfig::run(args, ctx),
            Command::Completion(args) => completion::run(args, ctx),
        }
    }
}
