//! Removes directory trees that others have written: by descriptor, never through a link, never into a mount.
//!
//! A tree can be deeper than any stack or table of descriptors, so it is made flat while it is removed: directories
//! two levels down are moved one level up. At no time more than three descriptors are open.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags, openat, openat2, renameat_with, unlinkat},
    io::Errno,
};

/// Directories are opened one step at a time, and a step may not leave the file system's mount or follow a link.
const STEP: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory of ours, whose path no container can change.
pub(super) fn open_trusted(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(rustix::fs::CWD, path, OPEN, Mode::empty())?)
}

/// Removes `name` in `parent` with all that is in it. What is not there is fine.
///
/// # Errors
/// Also when something in the tree is a mount point: what is mounted there is left alone.
pub(super) fn remove(parent: impl AsFd, name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    let parent = parent.as_fd();
    match unlinkat(parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let top = step(parent, &name)?;
    let mut moved = 0;
    loop {
        let (removed, directories) = remove_files(top.as_fd())?;
        if directories.is_empty() && removed == 0 {
            break;
        }
        for directory in directories {
            remove_directory(top.as_fd(), &directory, &mut moved)?;
        }
    }
    Ok(unlinkat(parent, &name, AtFlags::REMOVEDIR)?)
}

/// Removes a directory in `top` after moving the directories in it to `top`.
fn remove_directory(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> io::Result<()> {
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = step(top, name)?;
    let (_, below) = remove_files(directory.as_fd())?;
    for child in below {
        lift(directory.as_fd(), &child, top, moved)?;
    }
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        // Somebody still writes to it; the next round of the caller finds it again.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn lift(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        let free = CString::new(format!(".removed-{moved}"))?;
        match renameat_with(from, name, top, &free, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Unlinks everything in a directory that is no directory. Returns how many, and the directories.
fn remove_files(directory: BorrowedFd<'_>) -> io::Result<(usize, Vec<CString>)> {
    let (mut removed, mut directories) = (0, Vec::new());
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => removed += 1,
            Err(Errno::ISDIR) => directories.push(name.to_owned()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((removed, directories))
}

fn step(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    if drover_api::mutants::active("A41-deletes-through-mounts") {
        return Ok(openat(parent, name, OPEN, Mode::empty())?);
    }
    Ok(openat2(parent, name, OPEN, Mode::empty(), STEP)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    fn lab() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_trusted(dir.path()).unwrap();
        (dir, fd)
    }

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let (dir, fd) = lab();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join(".removed-1")).unwrap();
        for place in [tree.join("link"), tree.join("a/link"), tree.join("a/b/c/link")] {
            symlink(&outside, place).unwrap();
        }
        symlink(outside.join("keep"), tree.join("a/file-link")).unwrap();
        remove(&fd, "tree").unwrap();
        assert!(!tree.exists());
        assert!(outside.join("keep").exists() && outside.join("sub").exists());
        remove(&fd, "tree").unwrap();
        symlink(&outside, &tree).unwrap();
        remove(&fd, "tree").unwrap();
        assert!(outside.join("keep").exists() && fs::symlink_metadata(&tree).is_err());
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let (dir, fd) = lab();
        fs::create_dir(dir.path().join("deep")).unwrap();
        let mut at = openat(&fd, "deep", OPEN, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "directory-name", Mode::RWXU).unwrap();
            at = openat(&at, "directory-name", OPEN, Mode::empty()).unwrap();
        }
        drop(at);
        remove(&fd, "deep").unwrap();
        assert!(!dir.path().join("deep").exists());
    }

    #[test]
    fn a_mount_in_the_tree_is_left_alone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for place in ["tree/a/mounted", "tree/mounted", "tree"] {
            let (dir, fd) = lab();
            let (precious, target) = (dir.path().join("precious"), dir.path().join(place));
            fs::create_dir_all(&precious).unwrap();
            fs::create_dir_all(&target).unwrap();
            fs::write(precious.join("data"), "x").unwrap();
            mount(Some(&precious), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            let result = remove(&fd, "tree");
            umount2(&target, MntFlags::MNT_DETACH).unwrap();
            assert!(result.is_err(), "{place}: {result:?}");
            assert!(precious.join("data").exists(), "{place}");
            remove(&fd, "tree").unwrap();
        }
    }
}
