//! Which template a ReplicaSet stands for: equality, hash, revision numbers. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest, Sha256};

/// The label that tells the pods of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// The annotation with the number of a revision, on ReplicaSets and on the Deployment.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers a ReplicaSet had before a rollback made it current again.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's replicas when the ReplicaSet was last scaled.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The Deployment's replicas and surge when the ReplicaSet was last scaled.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations that belong to the Deployment alone.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// The longest history kept, as in Kubernetes.
const HISTORY_LENGTH_MAX: usize = 2000;
/// No vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

type Annotations = BTreeMap<String, String>;

/// Returns a name for a template: ten letters, different for each count of collisions.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut hash = Sha256::new();
    // Typed objects have their fields in one order and their maps sorted: this text is canonical.
    hash.update(serde_json::to_vec(&without_hash(template)).unwrap_or_default());
    hash.update(collisions.to_be_bytes());
    hash.finalize().iter().take(10).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// Whether two templates make the same pods; the hash label does not count.
pub(super) fn same_template(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    without_hash(one) == without_hash(other)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = metadata.labels.as_mut() {
        labels.remove(HASH_LABEL);
    }
    metadata.labels.take_if(|labels| labels.is_empty());
    metadata.annotations.take_if(|annotations| annotations.is_empty());
    template
}

/// Reads a revision number; 0 when there is none.
pub(super) fn revision_of(annotations: &Annotations) -> i64 {
    annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Brings the annotations of the current ReplicaSet up to date: the Deployment's own, and the revision, which only grows.
pub(super) fn mark_current(annotations: &mut Annotations, deployment: Option<&Annotations>, revision: i64) {
    for (name, value) in deployment.into_iter().flatten() {
        if !NOT_COPIED.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let before = revision_of(annotations);
    if before >= revision {
        return;
    }
    if before > 0 {
        let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
        annotations.insert(REVISION_HISTORY.to_owned(), extend_history(&history, before));
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
}

fn extend_history(history: &str, revision: i64) -> String {
    let mut numbers: Vec<&str> = history.split(',').filter(|number| !number.is_empty()).collect();
    let last = revision.to_string();
    numbers.push(&last);
    let length = |numbers: &[&str]| numbers.iter().map(|number| number.len() + 1).sum::<usize>();
    while length(&numbers) > HISTORY_LENGTH_MAX && numbers.len() > 1 {
        numbers.remove(0);
    }
    numbers.join(",")
}

/// Notes on a ReplicaSet how large the whole Deployment is, which proportional scaling starts from.
pub(super) fn mark_size(annotations: &mut Annotations, replicas: i32, total_max: i32) {
    annotations.insert(DESIRED_REPLICAS.to_owned(), replicas.to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), total_max.to_string());
}

/// Reads a count that [`mark_size`] wrote.
pub(super) fn noted(annotations: &Annotations, name: &str) -> Option<i32> {
    annotations.get(name).and_then(|text| text.parse().ok())
}
