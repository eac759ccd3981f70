//! The proof that the store never loses an acknowledged write and never lies to a watcher. `docs/store-proof.md` tells
//! what is proved and what was measured.
//!
//! ```text
//! proof sweep [STRIDE] [RECOVERY_STRIDE]    power loss, EIO and ENOSPC at every STRIDE-th step; 1 is every one
//! proof strace [STRIDE]                     a real process killed at every sync, and at every STRIDE-th write
//! proof growth WRITES [DIR]                 WRITES over a thousand keys: the file stays bounded
//! proof histories embedded|etcd N [SEED]   N client histories, checked for linearizability and every watch
//! proof deliveries N [WATCHERS]             N events delivered to many watchers, each compared as it comes
//! proof controls                           the same checks on deliberately broken stores: all must be reported
//! ```
//!
//! The short form of each runs as the tests of this program: `cargo nextest run -p drover-store`.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod broken;
mod clients;
mod deliveries;
mod growth;
mod histories;
mod history;
mod linear;
mod log;
#[path = "../../tests/embedded/model.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "a part of the tests, where all of it is used")]
mod model;
mod on_embedded;
mod on_etcd;
mod rng;
mod scenario;
mod slot;
mod strace;
mod sweep;
mod watches;

use std::error::Error;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let clean = match words.as_slice() {
        ["sweep", rest @ ..] => sweep::program(rest)?,
        ["strace", rest @ ..] => strace::program(rest)?,
        ["victim", mode, dir] => strace::victim_program(mode, dir)?,
        ["growth", rest @ ..] => growth::program(rest)?,
        ["controls"] => histories::controls()?,
        ["deliveries", rest @ ..] => deliveries::program(rest)?,
        ["histories", backend, rest @ ..] => histories::program(backend, rest)?,
        _ => return Err("say what to prove: sweep, strace, growth, histories, deliveries or controls".into()),
    };
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
