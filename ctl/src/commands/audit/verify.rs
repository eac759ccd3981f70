//! `audit verify`: the chain of an audit log, read from its files.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
};

use anyhow::Context as _;
use drover_api::audit::{Verdict, Verifier};

use crate::cli::Context;

/// Check a log.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files, oldest first: `audit-*.log audit.log`
    #[arg(required = true, value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// The head that the server told: what the last line must be
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

/// Reads the files and says what is wrong with them.
pub(super) fn run(args: &Args, ctx: &Context) -> anyhow::Result<u8> {
    let verdict = verify(args)?;
    for problem in &verdict.problems {
        let weight = if problem.harmless { "note" } else { "FAIL" };
        ctx.output.line(format!("{weight}  line {}: {}", problem.line, problem.what))?;
    }
    let state = if verdict.is_intact() { "intact" } else { "broken" };
    ctx.output.line(format!(
        "{state}: {} lines, {} events lost, ends with line {}, head {}",
        verdict.lines, verdict.dropped, verdict.chain.sequence, verdict.chain.head
    ))?;
    Ok(u8::from(!verdict.is_intact()))
}

fn verify(args: &Args) -> anyhow::Result<Verdict> {
    let mut verifier = Verifier::default();
    for path in &args.files {
        let failed = || format!("cannot read {}", path.display());
        let file = BufReader::new(File::open(path).with_context(failed)?);
        for line in file.split(b'\n') {
            verifier.line(&line.with_context(failed)?);
        }
    }
    Ok(verifier.finish(args.head.as_deref()))
}

#[cfg(test)]
mod tests {
    use drover_api::audit::Chain;
    use serde_json::Map;

    use super::*;

    #[test]
    fn a_log_is_read_across_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = Chain::default();
        let files: Vec<PathBuf> = ["audit-2.log", "audit.log"].iter().map(|name| dir.path().join(name)).collect();
        for path in &files {
            let lines = [chain.append(Map::new(), 0), chain.append(Map::new(), 0)];
            std::fs::write(path, lines.map(|line| [line, b"\n".to_vec()].concat()).concat()).unwrap();
        }
        let args = |head: &str| Args { files: files.clone(), head: Some(head.to_owned()) };
        assert!(verify(&args(&chain.head)).unwrap().is_intact());
        assert!(!verify(&args("00")).unwrap().is_intact());
        std::fs::write(&files[0], "").unwrap();
        assert!(verify(&args(&chain.head)).unwrap().is_intact(), "the oldest files may have gone");
    }
}
