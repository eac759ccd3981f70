//! PersistentVolumes, their claims and classes.

use serde_json::{Map, Value};

use super::{affinity, cursor::At, report::Errors, resources, selector, volume};
use crate::{names, quantity::Quantity};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Most parameters of a StorageClass, and the most bytes of them together.
const PARAMETERS_MAX: usize = 512;
const PARAMETER_BYTES_MAX: usize = 256 * 1024;
/// Fields of a PersistentVolume's spec that are not its source.
const NOT_A_SOURCE: [&str; 10] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
    "volumeSource",
];

/// Checks a PersistentVolume.
pub(super) fn persistent_volume(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    access_modes(&spec.get("accessModes"), "", errors);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        errors.required(&capacity, "");
    } else if capacity.len() > 1 || !capacity.key("storage").is_set() {
        errors.not_supported(&capacity, &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        positive(&amount, errors);
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        errors.one_of(&policy, &["Delete", "Recycle", "Retain"]);
    }
    let required = spec.get("nodeAffinity.required");
    if required.is_set() {
        affinity::node_selector(&required, errors);
    } else if spec.get("nodeAffinity").is_set() {
        errors.required(&required, "must specify required node constraints");
    }
    source(&spec, errors);
    class_and_mode(&spec, errors);
}

/// Checks what may not change in a PersistentVolume.
pub(super) fn persistent_volume_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let (spec, old) = (root.get("spec"), old.get("spec"));
    let sources = |spec: &At<'_, '_>| -> Vec<(String, Value)> {
        let fields = spec.map().into_iter().flatten();
        let fields = fields.filter(|(field, value)| is_source(field) && !value.is_null());
        fields.map(|(field, value)| (field.clone(), value.clone())).collect()
    };
    if sources(&spec) != sources(&old) {
        errors
            .forbidden(&spec.get("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation");
    }
    errors.immutable(&spec.get("volumeMode"), &old.get("volumeMode"));
    if old.get("nodeAffinity").is_set() {
        errors.immutable(&spec.get("nodeAffinity"), &old.get("nodeAffinity"));
    }
}

/// Checks a PersistentVolumeClaim.
pub(super) fn persistent_volume_claim(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    access_modes(&spec.get("accessModes"), "at least 1 access mode is required", errors);
    selector::label_selector(&spec.get("selector"), errors);
    let resources = spec.get("resources");
    let storage = resources.get("requests.storage");
    if storage.is_set() {
        positive(&storage, errors);
    } else {
        errors.required(&resources.key("storage"), "");
    }
    let volume = spec.get("volumeName");
    if !volume.text().is_empty() {
        errors.check(&volume, names::dns_subdomain(volume.text()));
    }
    class_and_mode(&spec, errors);
    let source = spec.get("dataSource");
    if source.is_set() {
        for field in ["kind", "name"] {
            if source.get(field).text().is_empty() {
                errors.required(&source.get(field), "");
            }
        }
    }
}

/// Checks what may not change in a PersistentVolumeClaim: all but its size, once it is bound, and only upwards.
pub(super) fn persistent_volume_claim_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let (spec, was) = (root.get("spec"), old.get("spec"));
    let bound = root.get("status.phase").text() == "Bound" || old.get("status.phase").text() == "Bound";
    let normal = |spec: &At<'_, '_>| {
        let mut fields = spec.map().cloned().unwrap_or_else(Map::new);
        for (field, may_be_set) in [("volumeName", true), ("storageClassName", true)] {
            if may_be_set && !was.get(field).is_set() {
                fields.remove(field);
            }
        }
        if bound {
            fields.remove("resources");
            fields.remove("volumeAttributesClassName");
        }
        fields.retain(|_, value| !value.is_null());
        fields
    };
    if normal(&spec) != normal(&was) {
        errors.forbidden(
            &spec,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let size = |at: &At<'_, '_>, path: &str| Quantity::from_value(at.get(path).value()).unwrap_or(Quantity::ZERO);
    let (new, old_size) = (size(&spec, "resources.requests.storage"), size(&was, "resources.requests.storage"));
    let actual = size(old, "status.capacity.storage");
    if bound && new < old_size && (actual.is_zero() || new <= actual) {
        errors.forbidden(&spec.get("resources.requests.storage"), "field can not be less than status.capacity");
    }
}

/// Checks a StorageClass.
pub(super) fn storage_class(root: &At<'_, '_>, errors: &mut Errors) {
    let provisioner = root.get("provisioner");
    if provisioner.text().is_empty() {
        errors.required(&provisioner, "");
    } else {
        errors.check(&provisioner, names::qualified_name(&provisioner.text().to_lowercase()));
    }
    let parameters = root.get("parameters");
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            errors.invalid_value(&parameters, &Value::from(key), "field can not be empty.");
        }
        bytes += key.len() + value.text().len();
    }
    if parameters.len() > PARAMETERS_MAX {
        errors.too_long(&parameters, PARAMETERS_MAX);
    } else if bytes > PARAMETER_BYTES_MAX {
        errors.too_long(&parameters, PARAMETER_BYTES_MAX);
    }
    errors.one_of(&root.get("reclaimPolicy"), &["Delete", "Retain"]);
    errors.one_of(&root.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
}

/// Checks what may not change in a StorageClass.
pub(super) fn storage_class_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if root.get(field).value() != old.get(field).value() {
            errors.forbidden(&root.get(field), &format!("updates to {field} are forbidden."));
        }
    }
    errors.immutable(&root.get("volumeBindingMode"), &old.get("volumeBindingMode"));
}

fn is_source(field: &str) -> bool {
    !NOT_A_SOURCE.contains(&field)
}

fn access_modes(modes: &At<'_, '_>, missing: &str, errors: &mut Errors) {
    if modes.is_empty() {
        errors.required(modes, missing);
    }
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            errors.not_supported(&mode, &ACCESS_MODES);
        }
    }
    if modes.len() > 1 && modes.items().any(|mode| mode.text() == "ReadWriteOncePod") {
        errors.forbidden(modes, "may not use ReadWriteOncePod with other access modes");
    }
}

fn positive(amount: &At<'_, '_>, errors: &mut Errors) {
    if resources::quantity(amount, errors).is_some_and(|quantity| quantity <= Quantity::ZERO) {
        errors.invalid(amount, "must be greater than zero");
    }
    resources::bounded(amount, errors);
}

fn source(spec: &At<'_, '_>, errors: &mut Errors) {
    let fields = spec.map().into_iter().flatten();
    let kinds: Vec<&str> =
        fields.filter(|(field, value)| is_source(field) && !value.is_null()).map(|(field, _)| field.as_str()).collect();
    let Some((first, others)) = kinds.split_first() else {
        return errors.required(spec, "must specify a volume type");
    };
    for other in others {
        errors.forbidden(&spec.get(other), "may not specify more than 1 volume type");
    }
    let source = spec.get(first);
    match *first {
        "hostPath" => volume::host_path(&source, errors),
        "csi" => {
            for field in ["driver", "volumeHandle"] {
                if source.get(field).text().is_empty() {
                    errors.required(&source.get(field), "");
                }
            }
        }
        "local" => {
            if source.get("path").text().is_empty() {
                errors.required(&source.get("path"), "");
            }
            if !spec.get("nodeAffinity").is_set() {
                errors.required(&spec.get("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        _ => {}
    }
}

fn class_and_mode(spec: &At<'_, '_>, errors: &mut Errors) {
    let class = spec.get("storageClassName");
    if !class.text().is_empty() {
        errors.check(&class, names::dns_subdomain(class.text()));
    }
    let mode = spec.get("volumeMode");
    if mode.is_set() && !VOLUME_MODES.contains(&mode.text()) {
        errors.not_supported(&mode, &VOLUME_MODES);
    }
}
