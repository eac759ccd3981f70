//! `droverctl`: the user's tool.
//!
//! An ordinary Kubernetes client. Every command gathers what it needs from the API, decides in a pure function what to
//! show or to send, and prints through [`output`] alone. It holds no state and never talks to a node.

mod cli;
mod cluster;
mod commands;
mod completion;
mod explain;
mod failure;
mod input;
mod jsonpath;
mod output;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use cli::{Cli, Context};
use output::Output;

/// Exit code for a command line that means nothing (`EX_USAGE`): 1 and 2 have meanings of their own in `apply` and
/// `diff`.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    // Answers the shell and exits when the shell asks for completions.
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help goes to standard output and is no failure. Nobody is left to tell when printing fails.
            let _ = told.print();
            return ExitCode::from(if told.use_stderr() { USAGE } else { 0 });
        }
    };
    let ctx = Context { access: cli.global.access(), output: Output::detect() };
    let result = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(cli.command.run(&ctx));
            // A read of standard input cannot be interrupted: do not wait for it.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(anyhow::Error::from(error).context("cannot start")),
    };
    let code = result.unwrap_or_else(|error| {
        let report = failure::report(&error);
        for line in &report.lines {
            ctx.output.note(line);
        }
        report.code
    });
    ExitCode::from(code)
}
