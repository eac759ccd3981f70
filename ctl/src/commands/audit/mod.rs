//! `audit`: the self-check against the CIS benchmark, the holders of dangerous rights, and the chain of an audit log.
//!
//! Everything that judges is a pure function of [`World`], what the API said.

mod checks;
mod cluster_checks;
mod rbac;
mod server_checks;
#[cfg(test)]
mod tests;
mod verify;
mod world;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::Context,
    output::{Style, Table, Text},
};
use checks::{Finding, Verdict};
use world::World;

/// Check the cluster.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check the applicable items of the CIS Kubernetes benchmark (the default)
    Cis(Form),
    /// Show who holds dangerous rights
    Rbac(Form),
    /// Check the chain of an audit log: exits with 1 when a line was changed, removed or put in
    Verify(verify::Args),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Form {
    /// How to print
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    output: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Table,
    Json,
}

/// Runs `audit`. Exits with 1 when something failed; warnings do not count.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let what = args.what.unwrap_or(What::Cis(args.form));
    let (form, rbac_only) = match what {
        What::Verify(args) => return verify::run(&args, ctx),
        What::Cis(form) => (form, false),
        What::Rbac(form) => (form, true),
    };
    let world = World::fetch(&ctx.cluster().await?).await?;
    if rbac_only {
        let holders = rbac::holders(&world);
        print(ctx, form, &holders, &["RIGHT", "SUBJECT", "SCOPE", "BINDING"], |holder| {
            vec![holder.right.to_owned(), holder.subject.clone(), holder.scope.clone(), holder.binding.clone()]
        })?;
        return Ok(0);
    }
    let findings = checks::all(&world);
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    if form.output == Kind::Json {
        ctx.output.text(&format!("{:#}\n", json!({"context": world.context, "findings": findings})))?;
    } else {
        show(ctx, &findings, &world)?;
    }
    Ok(u8::from(failed))
}

fn show(ctx: &Context, findings: &[Finding], world: &World) -> anyhow::Result<()> {
    let mut table = Table::new();
    findings.iter().for_each(|finding| table.row([finding.id, finding.verdict.word(), finding.title, &finding.reason]));
    for (line, finding) in table.lines().into_iter().zip(findings) {
        let style = match finding.verdict {
            Verdict::Pass => Style::Green,
            Verdict::Warn => Style::Yellow,
            Verdict::Fail => Style::Red,
        };
        ctx.output.line(Text::styled(style, line))?;
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (pass, warn, fail) = (count(Verdict::Pass), count(Verdict::Warn), count(Verdict::Fail));
    ctx.output.line(format!("{pass} passed, {warn} warnings, {fail} failed"))?;
    if let Some(head) = world.report["audit"]["head"].as_str().filter(|head| !head.is_empty()) {
        ctx.output.line(format!("the audit log ends with line {}, head {head}", world.report["audit"]["sequence"]))?;
    }
    Ok(())
}

fn print<T: Serialize>(
    ctx: &Context,
    form: Form,
    items: &[T],
    headings: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    if form.output == Kind::Json {
        ctx.output.text(&format!("{:#}\n", json!(items)))?;
        return Ok(());
    }
    let mut table = Table::new();
    table.row(headings.iter().copied());
    items.iter().for_each(|item| table.row(row(item)));
    for line in table.lines() {
        ctx.output.line(line)?;
    }
    Ok(())
}
