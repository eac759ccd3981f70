//! Says what keeps a terminating Namespace. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::runtime::Error;
use crate::runtime::clock::whole_seconds;
use crate::runtime::error::chain;

/// Objects of one kind that are still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// For example `pods` or `deployments.apps`.
    pub resource: String,
    /// How many.
    pub count: usize,
    /// The finalizers on them, with repetitions.
    pub finalizers: Vec<String>,
}

/// Builds the conditions of a Namespace that is being emptied, in Kubernetes' words.
pub fn conditions(
    mut conditions: Vec<NamespaceCondition>,
    remaining: &[Remaining],
    failure: Option<&Error>,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let counts: Vec<String> =
        remaining.iter().map(|left| format!("{} has {} resource instances", left.resource, left.count)).collect();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    let told = if drover_api::mutants::active("C12-silent-finalizer") { &[] } else { remaining };
    for finalizer in told.iter().flat_map(|left| &left.finalizers) {
        *finalizers.entry(finalizer).or_insert(0) += 1;
    }
    let held: Vec<String> =
        finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let content = |texts: &[String], what: &str| (!texts.is_empty()).then(|| format!("{what}: {}", texts.join(", ")));
    let reports = [
        (
            "NamespaceDeletionContentFailure",
            failure.map(|error| chain(error)),
            (
                "ContentDeletionFailed",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            content(&counts, "Some resources are remaining"),
            ("SomeResourcesRemain", "ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            content(&held, "Some content in the namespace has finalizers remaining"),
            ("SomeFinalizersRemain", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    for (kind, problem, (bad, good, all_well)) in reports {
        let (status, reason, message) = match problem {
            Some(problem) => ("True", bad, problem),
            None => ("False", good, all_well.to_owned()),
        };
        let current = conditions.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let since = current.and_then(|condition| condition.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or_else(|| Some(Time(whole_seconds(now)))),
        };
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(condition);
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn text(conditions: &[NamespaceCondition]) -> String {
        let line = |c: &NamespaceCondition| format!("{} {} {}\n", c.type_, c.status, c.message.clone().unwrap());
        conditions.iter().map(line).collect()
    }

    #[test]
    fn a_namespace_says_what_keeps_it() {
        let remaining = [
            Remaining { resource: "pods".to_owned(), count: 2, finalizers: vec![] },
            Remaining { resource: "configmaps".to_owned(), count: 1, finalizers: vec!["example.com/hold".to_owned()] },
        ];
        let conditions = conditions(Vec::new(), &remaining, None, Timestamp::UNIX_EPOCH);
        expect![[r#"
            NamespaceDeletionContentFailure False All content successfully deleted, may be waiting on finalization
            NamespaceContentRemaining True Some resources are remaining: pods has 2 resource instances, configmaps has 1 resource instances
            NamespaceFinalizersRemaining True Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances
        "#]]
        .assert_eq(&text(&conditions));
    }

    #[test]
    fn what_has_not_changed_keeps_its_time() {
        let first = conditions(Vec::new(), &[], None, Timestamp::UNIX_EPOCH);
        let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60);
        assert_eq!(conditions(first.clone(), &[], None, later), first);
    }
}
