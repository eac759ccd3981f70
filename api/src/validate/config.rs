//! ConfigMaps and Secrets.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{cursor::At, report::Errors};
use crate::names;

/// Most bytes of data in one ConfigMap or Secret.
const DATA_BYTES_MAX: usize = 1024 * 1024;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

/// Checks a ConfigMap.
pub(super) fn config_map(root: &At<'_, '_>, errors: &mut Errors) {
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut bytes = 0;
    for (key, value) in data.entries() {
        errors.check_text(&value, key, names::config_key(key));
        if binary.key(key).is_set() {
            errors.invalid_value(&value, &Value::from(key), "duplicate of key present in binaryData");
        }
        bytes += value.text().len();
    }
    for (key, value) in binary.entries() {
        errors.check_text(&value, key, names::config_key(key));
        bytes += decoded(&value, errors).len();
    }
    if bytes > DATA_BYTES_MAX {
        errors.too_long(root, DATA_BYTES_MAX);
    }
}

/// Checks what may not change in a ConfigMap.
pub(super) fn config_map_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    frozen(root, old, &["data", "binaryData"], errors);
}

/// Checks a Secret.
pub(super) fn secret(root: &At<'_, '_>, errors: &mut Errors) {
    let data = root.get("data");
    let mut bytes = 0;
    for (key, value) in data.entries() {
        errors.check_text(&value, key, names::config_key(key));
        bytes += decoded(&value, errors).len();
    }
    if bytes > DATA_BYTES_MAX {
        errors.too_long(&data, DATA_BYTES_MAX);
    }
    let missing = |key: &str| !data.key(key).is_set();
    match root.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let annotations = root.get("metadata.annotations");
            let account = annotations.key("kubernetes.io/service-account.name");
            if account.text().is_empty() {
                errors.required(&account, "");
            }
        }
        "kubernetes.io/dockercfg" => json_object(&data.key(".dockercfg"), errors),
        "kubernetes.io/dockerconfigjson" => json_object(&data.key(".dockerconfigjson"), errors),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data.key("ssh-privatekey").text().is_empty() => {
            errors.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| missing(key)) {
                errors.required(&data.key(key), "");
            }
        }
        _ => {}
    }
}

/// Checks what may not change in a Secret.
pub(super) fn secret_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    errors.immutable(&root.get("type"), &old.get("type"));
    frozen(root, old, &["data"], errors);
}

fn frozen(root: &At<'_, '_>, old: &At<'_, '_>, fields: &[&str], errors: &mut Errors) {
    if !old.get("immutable").is_true() {
        return;
    }
    if !root.get("immutable").is_true() {
        errors.forbidden(&root.get("immutable"), IMMUTABLE);
    }
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_else(Map::new);
    for field in fields {
        if entries(root.get(field).value()) != entries(old.get(field).value()) {
            errors.forbidden(&root.get(field), IMMUTABLE);
        }
    }
}

fn decoded(value: &At<'_, '_>, errors: &mut Errors) -> Vec<u8> {
    STANDARD.decode(value.text()).unwrap_or_else(|_| {
        // The text itself is not shown: it may be a secret.
        errors.invalid_value(value, &Value::from("<redacted>"), "illegal base64 data");
        Vec::new()
    })
}

fn json_object(value: &At<'_, '_>, errors: &mut Errors) {
    if !value.is_set() {
        return errors.required(value, "");
    }
    let bytes = STANDARD.decode(value.text()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
        // Only the place of the error: its text may quote the secret.
        let place = format!("invalid JSON at line {} column {}", error.line(), error.column());
        errors.invalid_value(value, &Value::from("<secret contents redacted>"), &place);
    }
}
