//! `token`: what lets hosts join the cluster as nodes.

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::duration;
use crate::{
    cli::Context,
    cluster::{Cluster, Delete},
    output::Table,
};

const TOKENS: &str = "/apis/drover.dev/v1alpha1/jointokens";

/// What ids are made of; none of it is mistaken for another.
const ID_LETTERS: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";
const ID_LENGTH: usize = 8;
/// 128 bits.
const SECRET_BYTES: usize = 16;

/// Let hosts join the cluster as nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a token and print the command that joins a host with it; it is shown only now
    Create(Create),
    /// List the tokens, without their secrets
    List,
    /// Make a token useless; nodes that have joined stay (`delete nodekey NAME` ends a node's rights)
    Revoke {
        /// The id: what stands before the dot
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// How long the token lets nodes in
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse)]
    ttl: Duration,
    /// How many nodes it lets in
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// What it is for
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// Where the new nodes reach the servers, when that is not where the kubeconfig does
    #[arg(long, value_name = "https://HOST:PORT,…")]
    server: Option<String>,
    /// Print nothing but the token
    #[arg(short, long)]
    quiet: bool,
}

/// Runs `token`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    match args.what {
        What::Create(args) => create(args, ctx, &cluster).await?,
        What::List => list(ctx, &cluster).await?,
        What::Revoke { id } => {
            cluster.delete(&format!("{TOKENS}/{id}"), &Delete::default()).await?;
            ctx.output.line(format!("token {id} lets nobody in any more"))?;
        }
    }
    Ok(0)
}

async fn create(args: Create, ctx: &Context, cluster: &Cluster) -> anyhow::Result<()> {
    let life = SignedDuration::try_from(args.ttl).ok().filter(|life| life.is_positive());
    let end = life
        .and_then(|life| Timestamp::now().checked_add(life).ok())
        .context("--ttl must be above 0 and end in this era")?;
    let (id, secret) = (random_id(), hex(&rand::random::<[u8; SECRET_BYTES]>()));
    let token = object(&id, &secret, end, &args);
    // Before anything is stored: without the pin, the token is of no use.
    let pin = (!args.quiet).then(|| pin(cluster)).transpose()?;
    cluster.create(TOKENS, &token).await?;
    let token = format!("{id}.{secret}");
    let Some(pin) = pin else { return Ok(ctx.output.line(token)?) };
    let server = args.server.as_deref().unwrap_or(&cluster.server);
    ctx.output.line(format!("drover agent --server {server} --ca-pin {pin} --token {token}"))?;
    if args.server.is_none() && is_loopback(server) {
        ctx.output.note(&format!("other hosts do not reach {server}: give --server https://HOST:PORT"));
    }
    let nodes = if args.uses == 1 { "one node".to_owned() } else { format!("{} nodes", args.uses) };
    ctx.output.note(&format!("lets in {nodes} until {}", show(end)));
    Ok(())
}

fn object(id: &str, secret: &str, end: Timestamp, args: &Create) -> Value {
    json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "JoinToken",
        "metadata": {"name": id},
        "spec": {
            "secretHash": hex(&Sha256::digest(secret)),
            "expirationTimestamp": show(end),
            "maxUses": args.uses,
            "description": args.description,
        },
    })
}

async fn list(ctx: &Context, cluster: &Cluster) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.row(["ID", "USES", "EXPIRES", "NODES", "DESCRIPTION"]);
    for token in cluster.list(TOKENS).await? {
        table.row(row(&token, Timestamp::now()));
    }
    for line in table.lines() {
        ctx.output.line(line)?;
    }
    Ok(())
}

fn row(token: &Value, now: Timestamp) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes: Vec<String> =
        token["status"]["nodes"].as_array().into_iter().flatten().map(|node| text(&node["name"])).collect();
    let end = text(&token["spec"]["expirationTimestamp"]);
    let ended = end.parse().is_ok_and(|end: Timestamp| end <= now);
    vec![
        text(&token["metadata"]["name"]),
        format!("{}/{}", nodes.len(), token["spec"]["maxUses"]),
        if ended { format!("{end} (ended)") } else { end },
        nodes.join(","),
        text(&token["spec"]["description"]),
    ]
}

/// The fingerprint of the authority that the kubeconfig names.
fn pin(cluster: &Cluster) -> anyhow::Result<String> {
    let authority = cluster.authority.as_ref();
    let authority =
        authority.context("the kubeconfig names no certificate authority that new nodes could know the servers by")?;
    Ok(format!("sha256:{}", hex(&Sha256::digest(authority))))
}

/// Whether a URL leads only to the host itself.
fn is_loopback(url: &str) -> bool {
    let host = url.trim_start_matches("https://");
    ["127.", "localhost", "[::1]"].iter().any(|own| host.starts_with(own))
}

fn random_id() -> String {
    (0..ID_LENGTH).map(|_| char::from(ID_LETTERS[rand::random_range(0..ID_LETTERS.len())])).collect()
}

fn show(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_object_holds_the_hash_and_nothing_else_of_the_secret() {
        let args =
            Create { ttl: Duration::from_secs(3600), uses: 3, description: "web".into(), server: None, quiet: true };
        let object = object("abcd2345", "secret", now(), &args);
        assert!(!object.to_string().contains("\"secret\""));
        assert_eq!(object["spec"]["secretHash"], "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
        assert_eq!(object["spec"]["expirationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!((&object["spec"]["maxUses"], &object["spec"]["description"]), (&json!(3), &json!("web")));
    }

    #[test]
    fn what_only_this_host_reaches_is_told_apart() {
        for (url, own) in [
            ("https://127.0.0.1:6443", true),
            ("https://localhost:6443", true),
            ("https://[::1]:6443", true),
            ("https://10.0.0.1:6443", false),
            ("https://api.example.com", false),
        ] {
            assert_eq!(is_loopback(url), own, "{url}");
        }
    }

    #[test]
    fn ids_are_names_that_differ() {
        let (one, other) = (random_id(), random_id());
        assert_eq!((one.len(), drover_api::names::dns_label(&one)), (ID_LENGTH, Vec::<String>::new()));
        assert_ne!(one, other);
    }

    #[test]
    fn a_row_says_who_came_and_what_has_ended() {
        let token = json!({
            "metadata": {"name": "abcd2345"},
            "spec": {"maxUses": 3, "expirationTimestamp": "2026-01-01T00:00:00Z", "description": "web"},
            "status": {"nodes": [{"name": "n1"}, {"name": "n2"}]},
        });
        assert_eq!(row(&token, now()), ["abcd2345", "2/3", "2026-01-01T00:00:00Z (ended)", "n1,n2", "web"]);
        let before = now() - SignedDuration::from_secs(1);
        assert_eq!(row(&token, before)[2], "2026-01-01T00:00:00Z");
    }
}
