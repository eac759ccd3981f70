//! Pods stay five minutes on a node that is not ready or unreachable, unless they say otherwise.

use drover_api::{
    object::{at, str_at},
    status::ApiError,
};
use serde_json::{Value, json};

use super::{Effects, Operation, Request, Settings};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Kubernetes' default.
const SECS: i64 = 300;

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.is_main("", "Pod") {
        return Ok(());
    }
    let mut tolerations = at(object, &["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    for taint in TAINTS {
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            tolerations
                .push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECS}));
        }
    }
    object["spec"]["tolerations"] = tolerations.into();
    Ok(())
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let key = str_at(toleration, &["key"]);
    let effect = str_at(toleration, &["effect"]);
    (key == taint || key.is_empty()) && matches!(effect, "" | "NoExecute")
}
