//! PersistentVolumes, their claims and classes.

use serde_json::Value;

use super::{
    Column, age,
    column::{AGE, NAME, Printer, is_deleted, items, text, text_or, wide},
};
use crate::object::{self, at, str_at};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const MODES: [(&str, &str); 4] =
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];

pub(super) const PERSISTENT_VOLUME: Printer = Printer {
    columns: &[
        NAME,
        text("Capacity", "How much the volume holds."),
        text("Access Modes", "How it may be mounted."),
        text("Reclaim Policy", "What becomes of the data when the claim is gone."),
        text("Status", "Whether a claim is bound to it."),
        text("Claim", "The claim that is bound to it."),
        text("StorageClass", "The class that it belongs to."),
        text("VolumeAttributesClass", "The class of its changeable attributes."),
        text("Reason", "Why it is in its status."),
        AGE,
        wide("VolumeMode", "Whether it is a file system or a block device."),
    ],
    cells: persistent_volume,
};

pub(super) const PERSISTENT_VOLUME_CLAIM: Printer = Printer {
    columns: &[
        NAME,
        text("Status", "Whether a volume is bound to it."),
        text("Volume", "The volume that is bound to it."),
        text("Capacity", "How much the volume holds."),
        text("Access Modes", "How the volume may be mounted."),
        text("StorageClass", "The class that it asks for."),
        text("VolumeAttributesClass", "The class of its changeable attributes."),
        AGE,
        wide("VolumeMode", "Whether it is a file system or a block device."),
    ],
    cells: persistent_volume_claim,
};

pub(super) const STORAGE_CLASS: Printer = Printer {
    columns: &[
        NAME,
        text("Provisioner", "Who makes volumes of the class."),
        text("ReclaimPolicy", "What becomes of the data when the claim is gone."),
        text("VolumeBindingMode", "When claims of the class are bound."),
        Column {
            name: "AllowVolumeExpansion",
            kind: "boolean",
            format: "",
            description: "Whether claims of the class may grow.",
            priority: 0,
        },
        AGE,
    ],
    cells: storage_class,
};

fn persistent_volume(object: &Value, now_secs: i64) -> Vec<Value> {
    let claim = at(object, &["spec", "claimRef"]).filter(|claim| claim.is_object());
    let claim = claim
        .map_or_else(String::new, |claim| format!("{}/{}", str_at(claim, &["namespace"]), str_at(claim, &["name"])));
    vec![
        object::name(object).into(),
        amount(object, &["spec", "capacity", "storage"]).into(),
        access_modes(items(object, &["spec", "accessModes"])).into(),
        str_at(object, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(object).into(),
        claim.into(),
        str_at(object, &["spec", "storageClassName"]).into(),
        text_or(object, &["spec", "volumeAttributesClassName"], "<unset>").into(),
        str_at(object, &["status", "reason"]).into(),
        age::of(object, now_secs).into(),
        text_or(object, &["spec", "volumeMode"], "<unset>").into(),
    ]
}

fn persistent_volume_claim(object: &Value, now_secs: i64) -> Vec<Value> {
    let volume = str_at(object, &["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (amount(object, &["status", "capacity", "storage"]), access_modes(items(object, &["status", "accessModes"])))
    };
    vec![
        object::name(object).into(),
        phase(object).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        str_at(object, &["spec", "storageClassName"]).into(),
        text_or(object, &["spec", "volumeAttributesClassName"], "<unset>").into(),
        age::of(object, now_secs).into(),
        text_or(object, &["spec", "volumeMode"], "<unset>").into(),
    ]
}

fn storage_class(object: &Value, now_secs: i64) -> Vec<Value> {
    let is_default = str_at(object, &["metadata", "annotations", DEFAULT_CLASS]) == "true";
    let name = format!("{}{}", object::name(object), if is_default { " (default)" } else { "" });
    vec![
        name.into(),
        str_at(object, &["provisioner"]).into(),
        text_or(object, &["reclaimPolicy"], "Delete").into(),
        text_or(object, &["volumeBindingMode"], "Immediate").into(),
        object.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or(false).into(),
        age::of(object, now_secs).into(),
    ]
}

fn phase(object: &Value) -> &str {
    if is_deleted(object) { "Terminating" } else { str_at(object, &["status", "phase"]) }
}

fn amount(object: &Value, path: &[&str]) -> String {
    let value = at(object, path).unwrap_or(&Value::Null);
    crate::quantity::Quantity::from_value(value).map_or_else(|_| "0".to_owned(), |amount| amount.to_string())
}

fn access_modes(modes: &[Value]) -> String {
    let listed = MODES.iter().filter(|(mode, _)| modes.iter().any(|listed| listed == mode));
    let listed: Vec<&str> = listed.map(|(_, short)| *short).collect();
    listed.join(",")
}
