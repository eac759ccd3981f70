//! `emptyDir`: a directory for as long as the pod lives, on disk or in memory.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use super::{mounts, ownership::FsGroup};

/// Any user of the pod's containers may write.
const MODE: u32 = 0o777;

/// Makes the directory, or leaves the one that is there as it is.
pub(super) fn ensure(path: &Path, in_memory: bool, size_bytes: Option<u64>, group: Option<FsGroup>) -> io::Result<()> {
    let is_new = match fs::create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    let was_mounted = in_memory && mounts::is_mount_point(path)?;
    if in_memory && !was_mounted {
        mounts::ensure_tmpfs(path, MODE, size_bytes)?;
    }
    if is_new || (in_memory && !was_mounted) {
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    }
    group.map_or(Ok(()), |group| group.apply(path))
}
