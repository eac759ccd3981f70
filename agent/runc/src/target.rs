//! Finds the namespace to enter and the runc to become.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

/// Written beside this program by the node agent: the absolute path of the engine's own runc.
const RUNC_PATH_FILE: &str = "runc.path";

/// Moves this process into the network namespace that `entry` links to; does nothing when there is no such entry.
pub(crate) fn enter_namespace(entry: &Path) -> Result<(), String> {
    match fs::symlink_metadata(entry) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot look up {}: {error}", entry.display())),
        Ok(_) => {}
    }
    let namespace = File::open(entry)
        .map_err(|error| format!("the pod's network namespace {} is gone: {error}", entry.display()))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("cannot enter the network namespace {}: {error}", entry.display()))
}

/// The engine's own runc: the path the agent wrote down, else the first `runc` on the PATH that is not this program.
pub(crate) fn runc() -> Result<PathBuf, String> {
    let ourselves = std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
    let written = fs::read_to_string(ourselves.with_file_name(RUNC_PATH_FILE)).ok();
    let search = std::env::var_os("PATH").unwrap_or_default();
    let candidates = written
        .map(|text| PathBuf::from(text.trim()))
        .into_iter()
        .chain(std::env::split_paths(&search).map(|folder| folder.join("runc")));
    first_other_program(candidates, &ourselves).ok_or_else(|| {
        format!(
            "no runc found: {} names none and there is none on the PATH",
            ourselves.with_file_name(RUNC_PATH_FILE).display()
        )
    })
}

fn first_other_program(mut candidates: impl Iterator<Item = PathBuf>, ourselves: &Path) -> Option<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    let own = identity(ourselves);
    candidates.find(|path| {
        let executable = fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
        path.is_absolute() && executable && identity(path) != own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_chooses_itself_nor_what_cannot_be_executed() {
        let ourselves = std::env::current_exe().unwrap();
        let candidates = ["runc", "/nonexistent/runc", "/etc/passwd", "/bin/sh"].map(PathBuf::from);
        let all = std::iter::once(ourselves.clone()).chain(candidates);
        assert_eq!(first_other_program(all, &ourselves), Some(PathBuf::from("/bin/sh")));
        assert_eq!(first_other_program(std::iter::once(ourselves.clone()), &ourselves), None);
    }

    #[test]
    fn no_entry_means_nothing_to_enter() {
        assert_eq!(enter_namespace(Path::new("/nonexistent/containers/web")), Ok(()));
    }

    #[test]
    fn a_broken_entry_is_an_error_and_not_the_hosts_network() {
        let link = std::env::temp_dir().join(format!("drover-runc-test-{}", std::process::id()));
        std::os::unix::fs::symlink("/nonexistent/netns", &link).unwrap();
        let outcome = enter_namespace(&link);
        fs::remove_file(&link).unwrap();
        assert!(outcome.unwrap_err().contains("network namespace"));
    }
}
