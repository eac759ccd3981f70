//! `create token`: a token for a ServiceAccount.

use std::time::Duration;

use drover_api::object::str_at;
use serde_json::json;

use super::duration;
use crate::{cli::Context, completion, failure::Failure};

/// Create a token.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print a new token of a ServiceAccount
    #[command(after_help = "Example:\n  droverctl create token deployer -n ci --duration 10m")]
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// The ServiceAccount
    #[arg(add = completion::names_of("serviceaccounts"))]
    name: String,
    /// How long it is good for
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Whom it is for
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
}

/// Runs `create`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let What::Token(args) = args.what;
    let cluster = ctx.cluster().await?;
    let mut spec = json!({});
    if let Some(duration) = args.duration {
        spec["expirationSeconds"] = duration.as_secs().into();
    }
    if !args.audience.is_empty() {
        spec["audiences"] = json!(args.audience);
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let accounts = cluster.resource("serviceaccounts").await?;
    let answer = cluster.create(&accounts.subresource(&cluster.namespace, &args.name, "token"), &request).await?;
    match str_at(&answer, &["status", "token"]) {
        "" => Err(Failure::new("the server sent no token").into()),
        token => {
            ctx.output.line(token)?;
            Ok(0)
        }
    }
}
