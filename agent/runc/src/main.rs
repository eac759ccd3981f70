//! `drover-runc`: an OCI runtime that puts a container into the network namespace its pod already has.
//!
//! Docker runs it in place of `runc`. When a container is created that has an entry `<run dir>/containers/<id>`
//! (a link to a network namespace, made by the node agent), the bundle's `config.json` is made to name that namespace.
//! Everything else passes through untouched: at the end this process *becomes* the engine's own runc, with the same
//! arguments, environment and open files.
//!
//! The bundle has to be changed because Docker writes the path of the host's namespace into it for a container with
//! host networking, so that entering the pod's namespace before runc would be undone by runc.
//! An entry that exists but cannot be followed is an error, never a silent start in the host's namespace.

mod bundle;
mod invocation;
mod report;
mod target;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use invocation::Invocation;

/// Where the node agent keeps its links, unless `DROVER_RUN_DIR` says otherwise.
const RUN_DIR: &str = "/run/drover";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let invocation = Invocation::parse(&arguments);
    let Err(message) = become_runc(&invocation, &arguments) else { return ExitCode::SUCCESS };
    report::failure(invocation.log.as_deref(), &message);
    ExitCode::FAILURE
}

/// Points the container at its namespace when it has one, then replaces this process; returns only to say why it could not.
fn become_runc(invocation: &Invocation, arguments: &[OsString]) -> Result<(), String> {
    let run_dir = std::env::var_os("DROVER_RUN_DIR").map_or_else(|| PathBuf::from(RUN_DIR), PathBuf::from);
    // Found before anything is changed, so that a failure leaves no trace.
    let runc = target::runc()?;
    if let Some(start) = &invocation.starting
        && let Some(namespace) = target::namespace(&run_dir.join("containers").join(&start.id))?
    {
        bundle::join_network(&start.bundle, &namespace)?;
    }
    let error = Command::new(&runc).arg0("runc").args(arguments).exec();
    Err(format!("cannot execute {}: {error}", runc.display()))
}
