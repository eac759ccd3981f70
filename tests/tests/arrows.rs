//! The only allowed arrows between crates, and the rules that every crate's manifest keeps.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// What each crate may use; `drover-tests` and `drover-sim` may use all. One row here is one sentence of ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("drover-api", &[]),
    ("drover-store", &["drover-api"]),
    ("drover-apiserver", &["drover-api", "drover-store"]),
    ("drover-routing", &["drover-api"]),
    ("drover-controllers", &["drover-api", "drover-routing"]),
    ("drover-agent", &["drover-api", "drover-routing"]),
    ("drover-runc", &[]),
    ("drover-ctl", &["drover-api", "drover-routing"]),
    ("drover", &["drover-api", "drover-store", "drover-apiserver", "drover-controllers", "drover-agent"]),
    ("drover-hello", &[]),
    ("drover-invariants", &[]),
];

/// Crates that do I/O or async: the api crate, which is pure, may use none of them.
const IMPURE: [&str; 8] = ["tokio", "kube", "hyper", "axum", "bollard", "redb", "rand", "k8s-openapi"];

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().other_options(["--offline".to_owned()]).exec().expect("cargo metadata runs")
}

fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let normal = |package: &cargo_metadata::Package| {
        let all = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        all.map(|dependency| dependency.name.clone()).collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

#[test]
fn arrows_between_crates_are_those_of_the_design() {
    let dependencies = dependencies(&metadata());
    let ours: BTreeSet<&String> = dependencies.keys().collect();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    for (name, uses) in &dependencies {
        if name == "drover-tests" || name == "drover-sim" {
            continue;
        }
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no row in ALLOWED"));
        for used in uses.iter().filter(|used| ours.contains(used)) {
            assert!(may.contains(used.as_str()), "{name} must not depend on {used}");
        }
    }
}

#[test]
fn arrows_keep_the_api_crate_free_of_io() {
    let dependencies = dependencies(&metadata());
    for impure in IMPURE {
        assert!(!dependencies["drover-api"].contains(impure), "drover-api must stay pure but depends on {impure}");
    }
}

#[test]
fn arrows_every_crate_takes_the_workspace_lints_and_is_not_published() {
    for package in metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("the manifest is readable");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} lacks the workspace lints", package.name);
        assert_eq!(package.publish, Some(Vec::new()), "{} could be published by accident", package.name);
    }
}
