//! `sealing`: the keys that Secrets are sealed with at rest.

use serde_json::{Value, json};

use crate::{
    cli::Context,
    cluster::{Cluster, Query},
    output::Table,
};

const ROOT: &str = "/drover/v1/sealing";

/// Look after the keys that Secrets are sealed with at rest.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the keys and what each of them seals; exits with 1 when a value cannot be opened
    Status,
    /// Make a new key, use it from now on, and seal everything else with it
    Rotate,
    /// Make a key for the next rotation, so that it can be copied to other servers first
    Prepare,
    /// Seal everything with the key in use, now
    Reseal,
    /// Remove an old key that nothing needs any more
    Retire {
        /// Name of the key, as `status` shows it
        key: String,
    },
    /// Delete a Secret that cannot be opened because its key is lost
    Discard {
        /// The Secret
        #[arg(value_name = "NAMESPACE/NAME")]
        secret: String,
    },
}

/// Runs `sealing`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    match args.what {
        What::Status => return status(&cluster, ctx).await,
        What::Rotate => {
            let key = post(&cluster, "rotate", &Query::new()).await?;
            ctx.output.line(format!("key {} is in use; what other keys seal is sealed anew now", text(&key["key"])))?;
        }
        What::Prepare => {
            let key = post(&cluster, "prepare", &Query::new()).await?;
            ctx.output.line(format!(
                "key {} is ready: copy pki/sealing.keys to the other servers, then rotate",
                text(&key["key"])
            ))?;
        }
        What::Reseal => {
            let done = post(&cluster, "reseal", &Query::new()).await?;
            ctx.output.line(format!("{} values sealed anew", done["written"]))?;
        }
        What::Retire { key } => {
            post(&cluster, "retire", &Query::new().with("key", &key)).await?;
            ctx.output.line(format!("key {key} is gone; backups that it sealed need a copy of it"))?;
        }
        What::Discard { secret } => {
            post(&cluster, "discard", &Query::new().with("secret", &secret)).await?;
            ctx.output.line(format!("secret {secret} deleted"))?;
        }
    }
    Ok(0)
}

async fn status(cluster: &Cluster, ctx: &Context) -> anyhow::Result<u8> {
    let report = cluster.get(ROOT).await?;
    let mut table = Table::new();
    table.row(["KEY", "CREATED", "IN USE", "VALUES"]);
    for row in rows(&report) {
        table.row(row);
    }
    for line in table.lines() {
        ctx.output.line(line)?;
    }
    let plain = report["plain"].as_u64().unwrap_or_default();
    if plain > 0 {
        ctx.output.line(format!("{plain} values are not sealed yet"))?;
    }
    let unreadable: Vec<&str> =
        report["unreadable"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for key in &unreadable {
        ctx.output.line(format!("cannot be opened: {key}"))?;
    }
    Ok(u8::from(!unreadable.is_empty()))
}

fn rows(report: &Value) -> Vec<Vec<String>> {
    let keys = report["keys"].as_array().into_iter().flatten();
    let row = |key: &Value| {
        let used = if key["primary"] == true { "yes" } else { "no" };
        vec![text(&key["id"]), text(&key["created"]), used.to_owned(), key["values"].to_string()]
    };
    keys.map(row).collect()
}

async fn post(cluster: &Cluster, what: &str, query: &Query) -> anyhow::Result<Value> {
    Ok(cluster.create(&query.on(&format!("{ROOT}/{what}")), &json!({})).await?)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_which_key_is_in_use() {
        let report = json!({"keys": [
            {"id": "00aa", "created": "2026-01-01T00:00:00Z", "primary": false, "values": 2},
            {"id": "00bb", "created": "2026-02-01T00:00:00Z", "primary": true, "values": 0},
        ]});
        assert_eq!(rows(&report)[0], ["00aa", "2026-01-01T00:00:00Z", "no", "2"]);
        assert_eq!(rows(&report)[1], ["00bb", "2026-02-01T00:00:00Z", "yes", "0"]);
    }
}
