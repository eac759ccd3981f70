//! A real process on a real disk, killed by strace at its i-th sync, rename, resize or write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use drover_store::Embedded;
use drover_store::embedded::Directory;

use crate::scenario::{self, Fault, Scenario};

type Failure = Box<dyn std::error::Error>;

/// The calls by which bytes get to the disk.
const SYSCALLS: [&str; 7] = ["fsync", "fdatasync", "rename", "ftruncate", "fallocate", "unlink", "pwrite64"];

/// How the process to kill runs its store.
const MODES: [&str; 2] = ["inline", "thread"];

/// `strace [STRIDE]`: kills at every sync, rename and resize, and at every STRIDE-th write. Returns whether nothing was
/// found.
pub(crate) fn program(arguments: &[&str]) -> Result<bool, Failure> {
    let stride: u64 = arguments.first().map_or(Ok(10), |stride| stride.parse())?;
    let scenario = scenario::ordinary();
    let mut is_clean = true;
    for mode in MODES {
        let counted = count(mode)?;
        let (mut points, mut killed) = (0_u64, 0_u64);
        let mut faults = Vec::new();
        for (syscall, times) in &counted {
            let stride = if *syscall == "pwrite64" { stride } else { 1 };
            for when in (1..=*times).step_by(stride as usize) {
                points += 1;
                let (acknowledged, verdict) = kill(&scenario, mode, syscall, when)?;
                killed += u64::from(acknowledged < scenario.len());
                faults.extend(
                    verdict.err().map(|fault| format!("{syscall} {when}, {acknowledged} acknowledged: {fault}")),
                );
            }
        }
        let counted: Vec<_> = counted.iter().map(|(syscall, times)| format!("{times} {syscall}")).collect();
        println!(
            "{mode}: {}; {points} kill points, {killed} before the end, {} with a loss or a regression",
            counted.join(" + "),
            faults.len()
        );
        faults.iter().take(5).for_each(|fault| println!("FAULT {fault}"));
        is_clean &= faults.is_empty();
    }
    Ok(is_clean)
}

/// How often the scenario makes each call.
fn count(mode: &str) -> Result<BTreeMap<&'static str, u64>, Failure> {
    let dir = tempfile::tempdir()?;
    let trace = dir.path().join("trace");
    let status =
        victim(&dir.path().join("data"), mode, &["-o".as_ref(), trace.as_os_str()], &[])?.wait_with_output()?.status;
    if !status.success() {
        return Err(format!("the scenario under strace ended with {status}").into());
    }
    let trace = std::fs::read_to_string(trace)?;
    let times = |syscall: &&'static str| {
        // A line is "PID name(…": calls that another thread interrupted appear a second time as "resumed".
        let begun = trace.lines().filter(|line| line.contains(&format!(" {syscall}("))).count();
        (*syscall, begun as u64)
    };
    Ok(SYSCALLS.iter().map(times).filter(|(_, times)| *times > 0).collect())
}

/// One kill, and the check of what is left. Returns how many actions were acknowledged.
fn kill(scenario: &Scenario, mode: &str, syscall: &str, when: u64) -> Result<(usize, Result<(), Fault>), Failure> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let inject = format!("inject={syscall}:signal=KILL:when={when}");
    let mut child = victim(&data, mode, &["-o".as_ref(), "/dev/null".as_ref()], &["-e", &inject])?;
    let output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let acknowledged = output.lines().map_while(Result::ok).filter(|line| line.starts_with("ack ")).count();
    child.wait()?;
    let verdict = match scenario.open_directory(&data, false) {
        Ok(store) => {
            let verdict = scenario.known_after(acknowledged).compare(&store);
            store.close();
            verdict
        }
        Err(error) => Err(Fault::Stuck(error.to_string())),
    };
    Ok((acknowledged, verdict))
}

fn victim(data: &Path, mode: &str, output: &[&std::ffi::OsStr], more: &[&str]) -> Result<std::process::Child, Failure> {
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace={}", SYSCALLS.join(","))])
        .args(output)
        .args(more)
        .arg(std::env::current_exe()?)
        .args(["victim", mode])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    Ok(strace.map_err(|err| format!("strace (package strace): {err}"))?)
}

/// `victim inline|thread DIR`: the process to kill. Prints a line for each action of the scenario, once it is done.
pub(crate) fn victim_program(mode: &str, dir: &str) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stdout = std::io::stdout();
    runtime.block_on(scenario::ordinary().play(Path::new(dir), mode == "thread", || {
        // One write to the pipe, so that no line is cut short.
        stdout.write_all(b"ack 1\n")
    }))?;
    Ok(true)
}

impl Scenario {
    /// Opens a real directory, with a thread or without.
    pub(crate) fn open_directory(&self, dir: &Path, with_thread: bool) -> Result<Arc<Embedded>, drover_store::Error> {
        let directory = Arc::new(Directory::lock(dir, self.options().reserve_bytes)?);
        if with_thread {
            Embedded::open_on(directory, self.options())
        } else {
            Embedded::open_inline(directory, self.options())
        }
    }
}
