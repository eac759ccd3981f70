//! Secrets, PersistentVolumes, their claims and classes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::edit::{Fields, canonicalise_resources, ensured, existing, set};

/// Fills in a Secret: its type, and `stringData` folded into `data`, over which it wins.
pub(super) fn secret(fields: &mut Fields) {
    set(fields, "type", "Opaque");
    let Some(strings) = fields.remove("stringData") else {
        return;
    };
    let Some(data) = ensured(fields, "data") else {
        return;
    };
    for (key, value) in strings.as_object().into_iter().flatten() {
        data.insert(key.clone(), STANDARD.encode(value.as_str().unwrap_or_default()).into());
    }
    if data.is_empty() {
        fields.remove("data");
    }
}

/// Fills in a PersistentVolume.
pub(super) fn persistent_volume(fields: &mut Fields) {
    if let Some(spec) = ensured(fields, "spec") {
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        canonicalise_resources(spec, "capacity");
        if let Some(host_path) = existing(spec, "hostPath")
            && host_path.get("type").is_none_or(Value::is_null)
        {
            host_path.insert("type".to_owned(), "".into());
        }
    }
    phase_pending(fields);
}

/// Fills in a PersistentVolumeClaim. The class is admission's: it depends on which one is the default.
pub(super) fn persistent_volume_claim(fields: &mut Fields) {
    if let Some(spec) = ensured(fields, "spec") {
        set(spec, "volumeMode", "Filesystem");
        set(spec, "resources", Map::new());
        if let Some(resources) = existing(spec, "resources") {
            canonicalise_resources(resources, "requests");
            canonicalise_resources(resources, "limits");
        }
    }
    phase_pending(fields);
}

/// Fills in a StorageClass.
pub(super) fn storage_class(fields: &mut Fields) {
    set(fields, "reclaimPolicy", "Delete");
    set(fields, "volumeBindingMode", "Immediate");
}

fn phase_pending(fields: &mut Fields) {
    if let Some(status) = ensured(fields, "status") {
        set(status, "phase", Value::from("Pending"));
        canonicalise_resources(status, "capacity");
    }
}
