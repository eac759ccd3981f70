//! The list of checks, and how a finding is made. Pure.

use serde::Serialize;

use super::{
    cluster_checks, server_checks,
    world::{World, name_of},
};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verdict {
    Pass,
    Warn,
    Fail,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "PASS",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Numbers of the items in CIS' benchmark 1.12.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

/// What a check says before it has a number and a title.
pub(super) type Outcome = (Verdict, String);

/// One check: its number, its title, and the decision.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) decide: fn(&World) -> Outcome,
}

/// Runs every check.
pub(super) fn all(world: &World) -> Vec<Finding> {
    let checks = server_checks::CHECKS.iter().chain(cluster_checks::CHECKS);
    let finding = |check: &Check| {
        let (verdict, reason) = (check.decide)(world);
        Finding { id: check.id, title: check.title, verdict, reason }
    };
    checks.map(finding).collect()
}

pub(super) fn pass(reason: impl Into<String>) -> Outcome {
    (Verdict::Pass, reason.into())
}

pub(super) fn warn(reason: impl Into<String>) -> Outcome {
    (Verdict::Warn, reason.into())
}

pub(super) fn fail(reason: impl Into<String>) -> Outcome {
    (Verdict::Fail, reason.into())
}

/// Passes when nothing was found, else names the first few.
pub(super) fn none_of(otherwise: Verdict, what: &str, mut found: Vec<String>) -> Outcome {
    const SHOWN: usize = 3;
    if found.is_empty() {
        return pass(format!("no {what}"));
    }
    let count = found.len();
    found.truncate(SHOWN);
    let more = if count > SHOWN { ", …" } else { "" };
    (otherwise, format!("{count} {what}: {}{more}", found.join(", ")))
}

/// The names of the objects that a check objects to.
pub(super) fn names<'a>(
    objects: impl IntoIterator<Item = &'a serde_json::Value>,
    bad: impl Fn(&serde_json::Value) -> bool,
) -> Vec<String> {
    objects.into_iter().filter(|object| bad(object)).map(name_of).collect()
}
