//! The table of planted bugs and the code agree, so that no bug is planted and forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The issue asks for so many.
const MUTANTS_MIN: usize = 60;
/// Where bugs are planted: shipping code.
const CRATES: [&str; 8] = ["api", "store", "apiserver", "routing", "controllers", "agent", "ctl", "drover"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// File and harness of each row, by id.
fn table() -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(root().join("docs/mutants.md")).expect("the table is there");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
        let [id, bug, public, file, harness] = cells.as_slice() else { panic!("a row has five cells: {line}") };
        assert!(!bug.is_empty() && !public.is_empty(), "{id} says what it is and what it stands for");
        let known = rows.insert((*id).to_owned(), ((*file).to_owned(), (*harness).to_owned()));
        assert!(known.is_none(), "{id} stands in the table twice");
    }
    rows
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The ids in the code, with the files that ask for them.
fn planted() -> BTreeMap<String, BTreeSet<String>> {
    let mut planted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in CRATES {
        let mut files = Vec::new();
        sources(&root().join(name).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("source is readable");
            let name = file.strip_prefix(root()).expect("below the root").display().to_string();
            for after in text.split("mutants::active(\"").skip(1) {
                let id = after.split('"').next().unwrap_or_default();
                planted.entry(id.to_owned()).or_default().insert(name.clone());
            }
        }
    }
    planted
}

#[test]
fn every_planted_bug_is_in_the_table_and_the_other_way_round() {
    let (planted, table) = (planted(), table());
    let ids = |of: BTreeSet<&String>| of.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(ids(planted.keys().collect()), ids(table.keys().collect()), "left: in the code, right: in the table");
    for (id, (file, _)) in &table {
        assert!(planted[id].contains(file), "{id} is planted in {:?}, the table says {file}", planted[id]);
    }
    assert!(table.len() >= MUTANTS_MIN, "only {} planted bugs", table.len());
}

#[test]
fn every_harness_names_a_package_and_a_target() {
    for (id, (_, harness)) in table() {
        let words: Vec<&str> = harness.split(' ').collect();
        let [package, target, ..] = words.as_slice() else { panic!("{id}: {harness} is no harness") };
        let file = match *target {
            "lib" => "src/lib.rs".to_owned(),
            "bin" => "src/main.rs".to_owned(),
            test if root().join(package).join(format!("tests/{test}.rs")).is_file() => format!("tests/{test}.rs"),
            test => format!("tests/{test}/main.rs"),
        };
        assert!(root().join(package).join(file).is_file(), "{id}: there is no target {package} {target}");
    }
}
