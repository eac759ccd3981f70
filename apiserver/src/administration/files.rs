//! Modes and owners of the files in the data directory.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// How deep is looked: `DIR/pki/ca.key`, `DIR/audit/audit.log`. Pods' volumes lie deeper and are the pods' own.
const DEPTH: usize = 2;
/// Entries told at most.
const ENTRIES_MAX: usize = 500;

/// Lists every file and directory with its mode and owner; what cannot be read is left out.
pub(super) fn modes(dir: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    visit(dir, DEPTH, &mut found);
    found
}

fn visit(path: &Path, depth: usize, found: &mut Vec<Value>) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    if found.len() >= ENTRIES_MAX || metadata.is_symlink() {
        return;
    }
    found.push(json!({
        "path": path,
        "directory": metadata.is_dir(),
        "mode": format!("{:04o}", metadata.mode() & 0o7777),
        "uid": metadata.uid(),
    }));
    if !metadata.is_dir() || depth == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    inside.sort();
    inside.iter().for_each(|path| visit(path, depth - 1, found));
}

/// Who this process runs as; `None` without `/proc`.
pub(super) fn process_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}
