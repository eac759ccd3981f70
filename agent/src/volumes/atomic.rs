//! Writes a volume's files so that a reader sees all of the old or all of the new, as Kubernetes does.
//!
//! The files are in a directory of their own, `..<time>`; the link `..data` names it, and the visible names are links
//! through `..data`. Replacing `..data` by rename is the one step that counts.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
};

use jiff::Timestamp;

use super::{payload::Payload, tree};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Brings a directory in line with a payload. Returns whether anything had to be written.
pub(super) fn write(directory: &Path, payload: &Payload, gid: Option<u32>, now: Timestamp) -> io::Result<bool> {
    let current = fs::read_link(directory.join(DATA)).ok();
    if current.is_some() && holds(directory, payload) {
        show(directory, payload)?;
        sweep(directory, current.as_deref())?;
        return Ok(false);
    }
    let version = new_version(directory, now)?;
    write_files(&directory.join(&version), payload, gid)?;
    remove_if_there(&directory.join(DATA_NEW))?;
    symlink(&version, directory.join(DATA_NEW))?;
    fs::rename(directory.join(DATA_NEW), directory.join(DATA))?;
    show(directory, payload)?;
    sweep(directory, Some(Path::new(&version)))?;
    Ok(true)
}

/// Whether the present version has these files and no others.
fn holds(directory: &Path, payload: &Payload) -> bool {
    let data = directory.join(DATA);
    let same = |(path, file): (&String, &super::payload::PayloadFile)| {
        let path = data.join(path);
        let mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o777);
        let mode_fits = mode.is_ok_and(|mode| mode & file.mode == file.mode);
        mode_fits && fs::read(&path).is_ok_and(|bytes| bytes == file.data)
    };
    payload.iter().all(same) && files_below(&data, Path::new("")).is_ok_and(|count| count == payload.len())
}

fn files_below(root: &Path, at: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(root.join(at))? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files_below(root, &at.join(entry.file_name()))? } else { 1 };
    }
    Ok(count)
}

/// Makes an empty directory with a name that no version had.
fn new_version(directory: &Path, now: Timestamp) -> io::Result<String> {
    let stamp = now.strftime("%Y_%m_%d_%H_%M_%S");
    for attempt in 0_u32.. {
        let name = format!("..{stamp}.{:09}{attempt}", now.subsec_nanosecond());
        match fs::DirBuilder::new().mode(0o755).create(directory.join(&name)) {
            Ok(()) => {
                fs::set_permissions(directory.join(&name), fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write_files(version: &Path, payload: &Payload, gid: Option<u32>) -> io::Result<()> {
    for (path, file) in payload {
        let path = version.join(path);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mut open = fs::OpenOptions::new();
        // Created closed: the mode is opened after the owner is right.
        let mut handle = open.write(true).create_new(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut handle, &file.data)?;
        let mut mode = file.mode;
        if gid.is_some() || file.uid.is_some() {
            chown(&path, file.uid, gid)?;
        }
        if gid.is_some() {
            mode |= 0o440;
        }
        handle.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Makes the visible names, and takes away those that no longer lead anywhere.
fn show(directory: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &String| path.split('/').find(|part| !part.is_empty()).map(str::to_owned);
    let names: BTreeSet<String> = payload.keys().filter_map(first).collect();
    for name in &names {
        let target = Path::new(DATA).join(name);
        let link = directory.join(name);
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            continue;
        }
        remove_if_there(&link)?;
        symlink(target, link)?;
    }
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let known = name.to_str().is_some_and(|name| name.starts_with("..") || names.contains(name));
        if !known {
            remove_if_there(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Removes versions other than the present one, as a crash or an update leaves them.
fn sweep(directory: &Path, current: Option<&Path>) -> io::Result<()> {
    let top = tree::open_trusted(directory)?;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(text) = name.to_str().filter(|text| text.starts_with("..") && *text != DATA) else { continue };
        if Some(Path::new(text)) != current {
            tree::remove(&top, text)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::payload::PayloadFile;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        let file = |(path, data, mode): &(&str, &str, u32)| {
            ((*path).to_owned(), PayloadFile { data: data.as_bytes().to_vec(), mode: *mode, uid: None })
        };
        files.iter().map(file).collect()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.000000006Z".parse().unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_through_links_and_change_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert!(write(path, &payload(&[("a", "1", 0o644), ("d/e", "2", 0o400)]), None, now()).unwrap());
        assert_eq!(names(path), ["..2026_01_02_03_04_05.0000000060", "..data", "a", "d"]);
        assert_eq!(fs::read_link(path.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_to_string(path.join("d/e")).unwrap(), "2");
        assert_eq!(fs::metadata(path.join("d/e")).unwrap().permissions().mode() & 0o777, 0o400);
        let old = fs::read_link(path.join("..data")).unwrap();

        assert!(write(path, &payload(&[("a", "3", 0o644), ("new", "", 0o644)]), None, now()).unwrap());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "3");
        assert_ne!(fs::read_link(path.join("..data")).unwrap(), old);
        assert!(!path.join(old).exists());
        assert_eq!(names(path)[1..], ["..data", "a", "new"]);
    }

    #[test]
    fn the_same_files_are_not_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let files = payload(&[("a", "1", 0o644)]);
        assert!(write(dir.path(), &files, None, now()).unwrap());
        assert!(!write(dir.path(), &files, None, now()).unwrap());
        assert!(write(dir.path(), &payload(&[("a", "1", 0o666)]), None, now()).unwrap(), "a mode counts");
        assert!(write(dir.path(), &payload(&[]), None, now()).unwrap(), "a missing file counts");
        assert_eq!(names(dir.path())[1..], ["..data"]);
    }

    #[test]
    fn what_a_crash_left_at_any_step_is_made_good() {
        let files = payload(&[("a", "1", 0o644)]);
        let steps: [fn(&Path); 4] = [
            |dir| fs::create_dir(dir.join("..2026_01_02_03_04_05.0000000060")).unwrap(),
            |dir| symlink("..gone", dir.join("..data_tmp")).unwrap(),
            |dir| symlink("..gone", dir.join("..data")).unwrap(),
            |dir| symlink("..data/old", dir.join("old")).unwrap(),
        ];
        for leave in steps {
            let dir = tempfile::tempdir().unwrap();
            leave(dir.path());
            write(dir.path(), &files, None, now()).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
            assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
        }
    }
}
