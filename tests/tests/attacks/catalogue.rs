//! The table of all 84 attacks in `docs/security.md` against what is really there.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use drover_tests::attack::groups;

#[test]
fn the_table_lists_every_attack_once_and_every_proof_it_names_exists() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let text = fs::read_to_string(root.join("docs/security.md"))?;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| A"))
        .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let ids: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted: Vec<String> = (1..=84).map(|number| format!("A{number:02}")).collect();
    ensure!(ids == wanted, "the table lists {ids:?}");
    let cases: BTreeSet<String> = groups()?.into_iter().flat_map(|group| group.cases).map(|case| case.id).collect();
    for row in &rows {
        let says_case = row.last().is_some_and(|proof| proof.contains("cases"));
        ensure!(says_case == cases.contains(row[0]), "{}: has cases: {}", row[0], cases.contains(row[0]));
        // What stands in backquotes is a file of the repository.
        let named = row.last().into_iter().flat_map(|proof| proof.split('`').skip(1).step_by(2));
        for path in named.filter(|path| path.contains('/')) {
            ensure!(root.join(path).exists(), "{}: {path} is not there", row[0]);
        }
    }
    Ok(())
}
