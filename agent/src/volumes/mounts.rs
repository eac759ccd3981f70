//! Our own mounts: tmpfs for memory, binds for subPath.

use std::{
    fs, io,
    os::{fd::AsRawFd as _, fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::statfs;

/// The file system type of tmpfs (`TMPFS_MAGIC` in linux/magic.h).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Mounts a tmpfs at a directory, unless there is one already.
pub(super) fn ensure_tmpfs(path: &Path, mode: u32, size_bytes: Option<u64>) -> io::Result<()> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let size = size_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let options = format!("mode={mode:o}{size}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Whether files at `path` stay in memory.
pub(super) fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|data| u64::try_from(data.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC))
}

/// Mounts exactly what a descriptor is open on, whatever its path has become meanwhile.
pub(super) fn bind(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    Ok(mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Takes a mount away; users of it keep theirs. Where nothing is mounted is fine.
pub(super) fn unmount(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether something is mounted at exactly this path, whose links are resolved.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(mount_points(&fs::read("/proc/self/mountinfo")?).iter().any(|point| point == path))
}

/// Takes away all mounts at and below a directory, the deepest first.
pub(super) fn unmount_below(directory: &Path) -> io::Result<()> {
    let points = mount_points(&fs::read("/proc/self/mountinfo")?);
    // Later mounts lie on top of earlier ones.
    for point in points.iter().rev().filter(|point| point.starts_with(directory)) {
        unmount(point)?;
    }
    Ok(())
}

/// The mount points of `/proc/self/mountinfo`, whose fifth field has blanks and backslashes in octal.
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)))).collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(escaped) => {
                out.push(escaped);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text =
            b"22 1 0:20 / / rw - ext4 /dev/x rw\n30 22 0:31 / /a\\040b\\134c rw,nosuid shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(mount_points(text), [PathBuf::from("/"), PathBuf::from("/a b\\c")]);
    }
}
