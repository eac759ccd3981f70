//! Deployments and ReplicaSets. Labels and selectors are never defaulted: `apps/v1` wants them written.

use super::{
    edit::{Fields, ensured, set, text},
    pod::pod_spec,
};

/// Fills in a Deployment.
pub(super) fn deployment(fields: &mut Fields) {
    let Some(spec) = ensured(fields, "spec") else {
        return;
    };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = ensured(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensured(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", "25%");
            set(rolling, "maxSurge", "25%");
        }
    }
    template(spec);
}

/// Fills in a ReplicaSet.
pub(super) fn replica_set(fields: &mut Fields) {
    let Some(spec) = ensured(fields, "spec") else {
        return;
    };
    set(spec, "replicas", 1);
    template(spec);
}

fn template(spec: &mut Fields) {
    if let Some(pod) = ensured(spec, "template").and_then(|template| ensured(template, "spec")) {
        pod_spec(pod);
    }
}
