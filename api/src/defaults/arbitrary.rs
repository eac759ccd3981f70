//! Arbitrary objects for the properties of defaulting, validation and tables.

use proptest::prelude::*;
use serde_json::Value;

/// Words that the hooks look for, so that junk lands where they read.
const WORDS: &str = "spec metadata status template containers initContainers ephemeralContainers volumes ports env envFrom \
    valueFrom fieldRef resources limits requests cpu memory storage livenessProbe readinessProbe httpGet grpc \
    port name image labels annotations selector matchLabels matchExpressions operator values key strategy \
    rollingUpdate maxSurge maxUnavailable replicas type data stringData subjects roleRef rules verbs kind \
    capacity accessModes subsets endpoints addresses conditions containerStatuses state waiting restartCount \
    tolerations affinity nodeAffinity requiredDuringSchedulingIgnoredDuringExecution nodeSelectorTerms \
    securityContext volumeMounts mountPath subPath configMap secret projected sources hostPath path \
    finalizers ownerReferences taints nodeName clusterIP deletionTimestamp";

/// Makes arbitrary JSON whose keys are words that the hooks look for.
pub(crate) fn arb_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS.split_whitespace().collect::<Vec<_>>());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "a",
            "RollingUpdate",
            "25%",
            "1Gi",
            "-1",
            "In",
            "é",
            "2026-01-01T00:00:00Z",
            "None"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 128, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
