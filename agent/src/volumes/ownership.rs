//! `fsGroup`: gives a volume to a group, by descriptor and without following links.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, ResolveFlags, chownat, fstat, openat, openat2};

const STEP: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);
/// What a group member may do with files, and with directories, whose new entries inherit the group.
const FILE_BITS: u32 = 0o660;
const DIRECTORY_BITS: u32 = 0o2770;

/// The group that a pod's volumes belong to, and whether a volume that already does is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FsGroup {
    pub gid: u32,
    pub only_on_mismatch: bool,
}

impl FsGroup {
    /// Reads a pod's security context.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let context = pod.spec.as_ref()?.security_context.as_ref()?;
        let gid = u32::try_from(context.fs_group?).ok()?;
        let only_on_mismatch = context.fs_group_change_policy.as_deref() == Some("OnRootMismatch");
        Some(Self { gid, only_on_mismatch })
    }

    /// Gives a directory and all in it to the group.
    pub(super) fn apply(self, root: &Path) -> io::Result<()> {
        let root = openat(rustix::fs::CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&root)?;
        if self.only_on_mismatch && stat.st_gid == self.gid && stat.st_mode & DIRECTORY_BITS == DIRECTORY_BITS {
            return Ok(());
        }
        let mut waiting = vec![PathBuf::from(".")];
        // The root comes last, so that `only_on_mismatch` takes an unfinished pass up again.
        while let Some(path) = waiting.pop() {
            self.apply_inside(&root, &path, &mut waiting)?;
        }
        self.give(&root)
    }

    fn apply_inside(self, root: &OwnedFd, path: &Path, waiting: &mut Vec<PathBuf>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat2(root, path, flags, Mode::empty(), STEP) {
            Ok(directory) => directory,
            // Gone meanwhile, turned into a link, or another volume mounted inside: not ours to change.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat2(&directory, name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_XDEV) {
                Ok(node) => {
                    self.give(&node)?;
                    if rustix::fs::FileType::from_raw_mode(fstat(&node)?.st_mode).is_dir() {
                        waiting.push(path.join(std::ffi::OsStr::new(&*name.to_string_lossy())));
                    }
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::XDEV) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn give(self, node: &OwnedFd) -> io::Result<()> {
        let stat = fstat(node)?;
        if stat.st_gid != self.gid {
            let group = Some(Gid::from_raw(self.gid));
            chownat(node, "", None, group, AtFlags::EMPTY_PATH)?;
        }
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        let bits = if kind.is_dir() { DIRECTORY_BITS } else { FILE_BITS };
        // A link has no mode of its own.
        if kind.is_symlink() || stat.st_mode & bits == bits {
            return Ok(());
        }
        set_mode(rustix::fd::AsFd::as_fd(node), stat.st_mode & 0o7777 | bits)
    }
}

/// Sets the mode of what a descriptor is open on, which may be a bare path.
fn set_mode(node: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_volume_is_given_to_the_group_and_what_its_links_point_to_is_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (outside, root) = (dir.path().join("outside"), dir.path().join("root"));
        fs::write(&outside, "x").unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        symlink(&outside, root.join("a/link")).unwrap();
        let group = FsGroup { gid: 4242, only_on_mismatch: true };
        group.apply(&root).unwrap();
        for (path, mode) in [(root.clone(), 0o2775), (root.join("a/b"), 0o2775), (root.join("a/b/file"), 0o664)] {
            let meta = fs::metadata(&path).unwrap();
            assert_eq!((meta.gid(), meta.mode() & 0o7777), (4242, mode), "{}", path.display());
        }
        assert_ne!(fs::metadata(&outside).unwrap().gid(), 4242);
        // A second pass over a root that fits does nothing.
        fs::write(root.join("late"), "x").unwrap();
        std::os::unix::fs::chown(root.join("late"), None, Some(0)).unwrap();
        group.apply(&root).unwrap();
        assert_ne!(fs::metadata(root.join("late")).unwrap().gid(), 4242);
        FsGroup { only_on_mismatch: false, ..group }.apply(&root).unwrap();
        assert_eq!(fs::metadata(root.join("late")).unwrap().gid(), 4242);
    }
}
