//! `subPath`: a place inside a volume, found by descriptor so that no link leads out of it, whenever it is swapped.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{mounts, problem::Problem};

/// Links are followed as long as they stay inside the volume.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// The kernel gives up when a path changes too often while it looks; so do we, later.
const TRIES: u32 = 16;

/// Finds `sub_path` in a volume, making directories that are not there, and mounts it below `mounts_dir`. Returns the
/// mount's path.
pub(super) fn ensure(volume: &Path, sub_path: &str, read_only: bool, mounts_dir: &Path) -> Result<PathBuf, Problem> {
    check(sub_path)?;
    let root = open(volume, PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| Problem::io("cannot open the volume for subPath", &errno.into()))?;
    let found = resolve(&root, Path::new(sub_path), read_only)?;
    publish(&found, &mounts_dir.join(target_name(sub_path)))
        .map_err(|error| Problem::io(&format!("cannot mount subPath {sub_path:?}"), &error))
}

fn check(sub_path: &str) -> Result<(), Problem> {
    let path = Path::new(sub_path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if sub_path.is_empty() || !plain || sub_path.contains('\0') {
        return Err(Problem::lasting(format!("subPath {sub_path:?} must be relative and must not contain '..'")));
    }
    Ok(())
}

fn resolve(root: &OwnedFd, path: &Path, read_only: bool) -> Result<OwnedFd, Problem> {
    match open_inside(root, path) {
        Ok(found) => return Ok(found),
        Err(Errno::NOENT) if !read_only => {}
        Err(errno) => return Err(refused(path, errno)),
    }
    let mut at = PathBuf::new();
    let mut directory = open_inside(root, Path::new(".")).map_err(|errno| refused(path, errno))?;
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        at.push(part);
        // A new directory is as open as the one it is in, as with kubelet.
        let stat = fstat(&directory).map_err(|errno| refused(path, errno))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        directory = match open_inside(root, &at) {
            Err(Errno::NOENT) => {
                match mkdirat(&directory, part.as_os_str(), mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(refused(path, errno)),
                }
                open_inside(root, &at).map_err(|errno| refused(path, errno))?
            }
            other => other.map_err(|errno| refused(path, errno))?,
        };
    }
    Ok(directory)
}

fn open_inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    for _ in 1..TRIES {
        match openat2(root, path, PATH, Mode::empty(), INSIDE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    openat2(root, path, PATH, Mode::empty(), INSIDE)
}

fn refused(path: &Path, errno: Errno) -> Problem {
    match errno {
        Errno::XDEV | Errno::LOOP => {
            Problem::passing(format!("subPath {path:?} leads out of the volume: the container may not have it"))
        }
        other => Problem::io(&format!("subPath {path:?}"), &other.into()),
    }
}

/// Mounts what was found, unless just that is mounted there.
fn publish(found: &OwnedFd, target: &Path) -> io::Result<PathBuf> {
    let wanted = fstat(found)?;
    if mounts::is_mount_point(target)? {
        let present = rustix::fs::stat(target);
        if present.is_ok_and(|present| (present.st_dev, present.st_ino) == (wanted.st_dev, wanted.st_ino)) {
            return Ok(target.to_owned());
        }
        mounts::unmount(target)?;
    }
    if let Some(parent) = target.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    let is_dir = FileType::from_raw_mode(wanted.st_mode).is_dir();
    // What an earlier version of the volume had there may be of the other kind.
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() == is_dir => {}
        Ok(meta) if meta.is_dir() => fs::remove_dir(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if is_dir {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(target)?;
    } else {
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(target)?;
    }
    mounts::bind(found, target)?;
    Ok(target.to_owned())
}

fn target_name(sub_path: &str) -> String {
    let digest = Sha256::digest(sub_path.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    struct Lab {
        dir: tempfile::TempDir,
    }

    impl Lab {
        /// `None` where mounts are not allowed.
        fn new() -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("volume")).unwrap();
            fs::create_dir_all(dir.path().join("outside")).unwrap();
            fs::write(dir.path().join("outside/secret"), "secret").unwrap();
            rustix::process::geteuid().is_root().then_some(Self { dir })
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }

        fn ensure(&self, sub_path: &str) -> Result<PathBuf, Problem> {
            ensure(&self.path("volume"), sub_path, false, &self.path("mounts"))
        }
    }

    impl Drop for Lab {
        fn drop(&mut self) {
            mounts::unmount_below(&self.path("mounts")).unwrap();
        }
    }

    #[test]
    fn a_sub_path_is_found_or_made_and_mounted_once() {
        let Some(lab) = Lab::new() else { return };
        let mounted = lab.ensure("a/b").unwrap();
        fs::write(mounted.join("x"), "1").unwrap();
        assert_eq!(fs::read_to_string(lab.path("volume/a/b/x")).unwrap(), "1");
        assert_eq!(lab.ensure("a/b").unwrap(), mounted);
        let file = lab.ensure("a/b/x").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        // The file is replaced; the next container sees the new one.
        fs::rename(lab.path("volume/a/b/x"), lab.path("volume/a/b/y")).unwrap();
        fs::create_dir(lab.path("volume/a/b/x")).unwrap();
        assert!(lab.ensure("a/b/x").unwrap().is_dir());
        symlink("a/b", lab.path("volume/inside")).unwrap();
        assert!(lab.ensure("inside").unwrap().join("y").exists());
    }

    #[test]
    fn nothing_outside_the_volume_is_ever_mounted_or_made() {
        let Some(lab) = Lab::new() else { return };
        symlink(lab.path("outside"), lab.path("volume/absolute")).unwrap();
        symlink("../outside", lab.path("volume/relative")).unwrap();
        symlink("../../../../../../etc", lab.path("volume/far")).unwrap();
        symlink("loop", lab.path("volume/loop")).unwrap();
        for sub_path in [
            "absolute",
            "relative",
            "relative/new",
            "absolute/new/deep",
            "far",
            "loop",
            "../outside",
            "/etc",
            "a/../..",
            "",
        ] {
            let result = lab.ensure(sub_path);
            assert!(result.is_err(), "{sub_path}: {result:?}");
        }
        assert_eq!(fs::read_dir(lab.path("outside")).unwrap().count(), 1);
        let read_only = ensure(&lab.path("volume"), "absent", true, &lab.path("mounts"));
        assert!(read_only.is_err() && !lab.path("volume/absent").exists());
    }

    #[test]
    fn a_link_swapped_in_while_we_look_does_not_lead_out() {
        let Some(lab) = Lab::new() else { return };
        fs::create_dir(lab.path("volume/good")).unwrap();
        symlink(lab.path("outside"), lab.path("volume/evil")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (good, evil) = (lab.path("volume/good"), lab.path("volume/evil"));
                while !stop.load(Ordering::Relaxed) {
                    // Exchanges the directory and the link in one step.
                    let here = rustix::fs::CWD;
                    rustix::fs::renameat_with(here, &good, here, &evil, rustix::fs::RenameFlags::EXCHANGE).unwrap();
                }
            });
            for _ in 0..3000 {
                if let Ok(mounted) = lab.ensure("good") {
                    assert!(!mounted.join("secret").exists(), "escaped");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(lab.path("outside")).unwrap().count(), 1);
    }
}
