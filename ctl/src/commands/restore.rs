//! `restore`: makes the cluster what a backup says, tells what that changes, and lets newer things go when told to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use drover_api::{
    backup::{Decoder, Item},
    object::str_at,
};
use serde_json::Value;

use crate::{
    cli::Context,
    cluster::{Error, Query},
    failure::Failure,
    output::Table,
};

const PATH: &str = "/apis/drover.dev/v1alpha1/restores";
/// Bytes checked at once.
const PIECE: usize = 64 << 10;

/// Restore the cluster from a backup, or confirm that what is newer than the backup may go.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file that `droverctl backup` wrote
    #[arg(value_hint = clap::ValueHint::FilePath, required_unless_present_any = ["confirm", "status"])]
    file: Option<PathBuf>,
    /// Only show how many objects would be made, changed and removed
    #[arg(long)]
    dry_run: bool,
    /// Restore a backup of another cluster
    #[arg(long)]
    force: bool,
    /// Let go what the restored state does not know: containers, volumes without claims, objects without owners
    #[arg(long, conflicts_with_all = ["file", "dry_run", "force", "status"])]
    confirm: bool,
    /// Show the last restore
    #[arg(long, conflicts_with_all = ["file", "dry_run", "force"])]
    status: bool,
}

/// Runs `restore`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let answer = match &args.file {
        Some(file) => {
            let bytes = read(file).with_context(|| file.display().to_string())?;
            let query = Query::new().with_some("dryRun", args.dry_run.then_some("All"));
            let query = query.with_some("force", args.force.then_some("true"));
            cluster.upload(&query.on(PATH), bytes).await
        }
        None if args.confirm => cluster.upload(&format!("{PATH}/cluster/confirm"), Vec::new()).await,
        None => cluster.get(&format!("{PATH}/cluster")).await,
    };
    match answer {
        Ok(state) => show(&state, ctx).map(|()| 0),
        Err(error) => Err(explain(error)),
    }
}

fn explain(error: Error) -> anyhow::Error {
    let text = error.to_string();
    if text.contains("force=true") {
        return Failure::new(text).help("is this the right --context? --force restores it all the same").into();
    }
    error.into()
}

/// Reads and checks a file, so that a damaged one is refused before anything is sent.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let mut decoder = Decoder::file();
    for piece in bytes.chunks(PIECE) {
        decoder.push(piece);
        while let Some(item) = decoder.next()? {
            drop::<Item>(item);
        }
    }
    decoder.finish()?;
    Ok(bytes)
}

fn show(state: &Value, ctx: &Context) -> anyhow::Result<()> {
    let phase = str_at(state, &["status", "phase"]);
    ctx.output.line(format!(
        "{}: backup of cluster {} at revision {}, taken {}, {} objects",
        told(phase),
        str_at(state, &["spec", "cluster"]),
        state["spec"]["revision"],
        str_at(state, &["spec", "takenAt"]),
        state["spec"]["records"]
    ))?;
    let changes = state["status"]["changes"].as_object().filter(|changes| !changes.is_empty());
    if let Some(changes) = changes {
        let mut table = Table::new();
        table.row(["KIND", "CREATED", "CHANGED", "REMOVED"]);
        for (kind, count) in changes {
            let number = |field: &str| count[field].to_string();
            table.row([kind.clone(), number("created"), number("changed"), number("removed")]);
        }
        table.lines().into_iter().try_for_each(|line| ctx.output.line(line))?;
    }
    if phase == "Restored" {
        ctx.output.note(
            "what is newer than the backup keeps running and no data is removed until: droverctl restore --confirm",
        );
    }
    Ok(())
}

fn told(phase: &str) -> &str {
    match phase {
        "DryRun" => "would restore",
        "Applying" => "restoring",
        "Restored" => "restored, not confirmed",
        "Confirmed" => "restored, confirmed",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use drover_api::backup::{Encoder, Header};

    use super::*;

    #[test]
    fn a_damaged_file_is_refused_before_it_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let (mut encoder, mut bytes) = Encoder::begin(&Header::default());
        encoder.record(b"/registry/a", b"{}", &mut bytes);
        bytes.extend(encoder.finish());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), bytes);
        bytes[40] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("damaged"));
        std::fs::write(&path, "kind: List").unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "this is not a backup file");
    }
}
