//! `hostPath`: a path of the host, checked for its type and for what it would expose.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use super::problem::Problem;
use crate::config::ForbiddenPaths;

/// What may not be mounted: paths with everything above them, and directories with everything in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fence {
    pub forbidden: ForbiddenPaths,
    /// Our own state: keys, other pods' secrets.
    pub private: Vec<PathBuf>,
}

impl Fence {
    fn check(&self, path: &Path) -> Result<(), Problem> {
        let private = self.private.iter().any(|private| path.starts_with(private));
        if private || self.forbidden.forbids(path) {
            return Err(Problem::lasting(format!(
                "hostPath {} may not be mounted: it would expose the container engine or the agent",
                path.display()
            )));
        }
        Ok(())
    }
}

/// Checks a path that somebody else will open; it is not made, and may be of any type.
pub(super) fn check_only(fence: &Fence, path: &Path) -> Result<(), Problem> {
    let (existing, missing) = split_existing(path)?;
    fence.check(&existing.join(missing))
}

/// Returns the path with all links resolved, after making it where its type asks for that.
pub(super) fn ensure(fence: &Fence, path: &str, check: &str) -> Result<PathBuf, Problem> {
    let path = Path::new(path);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs {
        return Err(Problem::lasting(format!("hostPath {path:?} must be absolute and must not contain '..'")));
    }
    // Where the path will lead, though its end may not be there yet.
    let (existing, missing) = split_existing(path)?;
    fence.check(&existing.join(&missing))?;
    if missing.as_os_str().is_empty() {
        check_type(&existing, check)?;
        return Ok(existing);
    }
    let made = existing.join(&missing);
    let failed = |error: io::Error| Problem::io(&format!("cannot make {}", made.display()), &error);
    match check {
        // A directory, as container runtimes make for a path that is not there.
        "" | "DirectoryOrCreate" => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&made).map_err(failed)?;
        }
        // As in Kubernetes, only the file itself is made.
        "FileOrCreate" => {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&made).map_err(failed)?;
        }
        _ => return check_type(&made, check).map(|()| made),
    }
    let resolved = made.canonicalize().map_err(failed)?;
    fence.check(&resolved)?;
    Ok(resolved)
}

fn split_existing(path: &Path) -> Result<(PathBuf, PathBuf), Problem> {
    for ancestor in path.ancestors() {
        match ancestor.canonicalize() {
            Ok(existing) => {
                let rest = path.strip_prefix(ancestor).unwrap_or_else(|_| Path::new("")).to_owned();
                return Ok((existing, rest));
            }
            // A link to nowhere could lead anywhere later.
            Err(_) if fs::symlink_metadata(ancestor).is_ok() => {
                return Err(Problem::passing(format!("hostPath {} is a link that leads nowhere", ancestor.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Problem::io(&format!("cannot resolve hostPath {}", path.display()), &error)),
        }
    }
    Err(Problem::lasting(format!("hostPath {} cannot be resolved", path.display())))
}

fn check_type(path: &Path, check: &str) -> Result<(), Problem> {
    let kind = fs::metadata(path).map(|meta| meta.file_type()).ok();
    let (fits, words) = match check {
        "" => (true, ""),
        "Directory" | "DirectoryOrCreate" => (kind.is_some_and(|kind| kind.is_dir()), "a directory"),
        "File" | "FileOrCreate" => (kind.is_some_and(|kind| kind.is_file()), "a file"),
        "Socket" => (kind.is_some_and(|kind| kind.is_socket()), "a socket file"),
        "CharDevice" => (kind.is_some_and(|kind| kind.is_char_device()), "a character device"),
        "BlockDevice" => (kind.is_some_and(|kind| kind.is_block_device()), "a block device"),
        other => return Err(Problem::lasting(format!("hostPath type {other:?} is not known"))),
    };
    if fits {
        return Ok(());
    }
    Err(Problem::passing(format!("hostPath type check failed: {} is not {words}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn a_path_is_made_or_checked_as_its_type_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        let table = [
            ("dir", "", true),
            ("dir", "Directory", true),
            ("dir", "File", false),
            ("file", "File", true),
            ("file", "FileOrCreate", true),
            ("file", "DirectoryOrCreate", false),
            ("file", "Socket", false),
            ("socket", "Socket", true),
            ("none", "Directory", false),
            ("none", "File", false),
            ("none", "BlockDevice", false),
            ("none", "Banana", false),
            ("new/file", "FileOrCreate", false),
            ("new/dir", "DirectoryOrCreate", true),
            ("new/file", "FileOrCreate", true),
            ("plain/dir", "", true),
        ];
        for (name, check, good) in table {
            let path = root.join(name);
            let result = ensure(&Fence::default(), path.to_str().unwrap(), check);
            assert_eq!(result.is_ok(), good, "{name} {check}: {result:?}");
            if good {
                assert_eq!(result.unwrap(), path);
                assert!(path.exists());
            }
        }
    }

    #[test]
    fn no_spelling_leads_to_what_is_fenced_off() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        fs::create_dir_all(root.join("data/pki")).unwrap();
        fs::create_dir_all(root.join("free")).unwrap();
        let _socket = UnixListener::bind(root.join("run/docker.sock")).unwrap();
        symlink(root.join("run"), root.join("free/link")).unwrap();
        symlink("../run/docker.sock", root.join("free/sock")).unwrap();
        symlink(&root, root.join("free/up")).unwrap();
        symlink(root.join("run/later"), root.join("free/dangling")).unwrap();
        let fence =
            Fence { forbidden: ForbiddenPaths::new([root.join("run/docker.sock")]), private: vec![root.join("data")] };
        let show = |path: &str| format!("{}{path}", root.display());
        let refused = [
            "/run",
            "/run/",
            "/run/.",
            "//run//docker.sock",
            "/run/docker.sock",
            "/run/../run/docker.sock",
            "",
            "/free/link",
            "/free/link/docker.sock",
            "/free/sock",
            "/free/up",
            "/free/up/run",
            "/data",
            "/data/pki",
            "/data/pki/new",
            "/free/up/data/pki",
            "/free/dangling",
        ];
        for path in refused {
            let result = ensure(&fence, &show(path), "");
            assert!(result.is_err(), "{path}: {result:?}");
        }
        let around = format!("/proc/self/root{}", show("/run"));
        assert!(ensure(&fence, &around, "").is_err(), "{around}");
        for path in ["/proc/1/root", "/proc", "/proc/self", "/", "relative"] {
            assert!(ensure(&fence, path, "").is_err(), "{path}");
        }
        assert!(!root.join("data/pki/new").exists());
        for path in ["/free", "/free/new", "/run/other"] {
            assert!(ensure(&fence, &show(path), "").is_ok(), "{path}");
        }
    }
}
