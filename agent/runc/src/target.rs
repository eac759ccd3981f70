//! Finds the namespace to join and the runc to become.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Written beside this program by the node agent: the absolute path of the engine's own runc.
const RUNC_PATH_FILE: &str = "runc.path";

/// The network namespace that `entry` links to; `None` when there is no such entry.
pub(crate) fn namespace(entry: &Path) -> Result<Option<String>, String> {
    let target = match fs::read_link(entry) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot look up {}: {error}", entry.display())),
        Ok(target) => target,
    };
    let path = target.to_str().filter(|_| target.is_absolute());
    let path = path
        .ok_or_else(|| format!("{} links to {}, which is not an absolute path", entry.display(), target.display()))?;
    // runc would fail too, but without a word about the pod.
    fs::metadata(&target).map_err(|error| format!("the pod's network namespace {path} is gone: {error}"))?;
    Ok(Some(path.to_owned()))
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
    use std::os::unix::fs::symlink;

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
    fn no_entry_means_no_namespace() {
        assert_eq!(namespace(Path::new("/nonexistent/containers/web")), Ok(None));
    }

    #[test]
    fn an_entry_names_the_namespace() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/proc/self/ns/net", folder.path().join("web")).unwrap();
        assert_eq!(namespace(&folder.path().join("web")), Ok(Some("/proc/self/ns/net".into())));
    }

    #[test]
    fn a_broken_entry_is_an_error_and_not_the_hosts_network() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/nonexistent/netns", folder.path().join("gone")).unwrap();
        symlink("relative", folder.path().join("relative")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for name in ["gone", "relative", "file"] {
            namespace(&folder.path().join(name)).unwrap_err();
        }
    }
}
