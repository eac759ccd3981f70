//! Volumes of pods and where containers mount them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{cursor::At, probe, report::Errors, resources};
use crate::names;

const BAD_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Names of the volumes of a pod.
pub(super) type Volumes<'a> = BTreeSet<&'a str>;

/// Checks the volumes of a pod and returns their names.
pub(super) fn volumes<'v>(list: &At<'_, 'v>, errors: &mut Errors) -> Volumes<'v> {
    let mut seen = BTreeSet::new();
    for volume in list.items() {
        source(&volume, errors);
        let name = volume.get("name");
        if name.text().is_empty() {
            errors.required(&name, "");
            continue;
        }
        errors.check(&name, names::dns_label(name.text()));
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
    list.value().as_array().into_iter().flatten().filter_map(|volume| volume.get("name")?.as_str()).collect()
}

fn source(volume: &At<'_, '_>, errors: &mut Errors) {
    let kinds = volume.map().into_iter().flatten().filter(|(field, value)| *field != "name" && !value.is_null());
    let kinds: Vec<&str> = kinds.map(|(field, _)| field.as_str()).collect();
    let Some((first, others)) = kinds.split_first() else {
        return errors.required(volume, "must specify a volume type");
    };
    for other in others {
        errors.forbidden(&volume.get(other), "may not specify more than 1 volume type");
    }
    let source = volume.get(first);
    match *first {
        "emptyDir" => {
            let limit = source.get("sizeLimit");
            if limit.is_set() && resources::quantity(&limit, errors).is_some_and(|limit| limit.is_negative()) {
                errors.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(&source, errors),
        "secret" => files(&source, "secretName", errors),
        "configMap" => files(&source, "name", errors),
        "downwardAPI" => {
            mode(&source.get("defaultMode"), errors);
            downward_files(&source.get("items"), errors);
        }
        "projected" => projected(&source, errors),
        "persistentVolumeClaim" if source.get("claimName").text().is_empty() => {
            errors.required(&source.get("claimName"), "");
        }
        _ => {}
    }
}

/// Checks a directory or file of the host.
pub(super) fn host_path(source: &At<'_, '_>, errors: &mut Errors) {
    let path = source.get("path");
    if path.text().is_empty() {
        return errors.required(&path, "");
    }
    no_backsteps(&path, errors);
    let kind = source.get("type");
    if !HOST_PATH_TYPES.contains(&kind.text()) {
        errors.not_supported(&kind, &HOST_PATH_TYPES);
    }
}

fn files(source: &At<'_, '_>, name_field: &str, errors: &mut Errors) {
    if source.get(name_field).text().is_empty() {
        errors.required(&source.get(name_field), "");
    }
    mode(&source.get("defaultMode"), errors);
    for item in source.get("items").items() {
        key_to_path(&item, errors);
    }
}

fn mode(mode: &At<'_, '_>, errors: &mut Errors) {
    if mode.number().is_some_and(|number| !(0..=0o777).contains(&number)) {
        errors.invalid(mode, BAD_MODE);
    }
}

fn key_to_path(item: &At<'_, '_>, errors: &mut Errors) {
    if item.get("key").text().is_empty() {
        errors.required(&item.get("key"), "");
    }
    file_path(&item.get("path"), errors);
    mode(&item.get("mode"), errors);
}

fn file_path(path: &At<'_, '_>, errors: &mut Errors) {
    if path.text().is_empty() {
        errors.required(path, "");
    }
    descending_path(path, errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        errors.invalid(path, "must not start with '..'");
    }
}

fn downward_files(list: &At<'_, '_>, errors: &mut Errors) {
    for file in list.items() {
        file_path(&file.get("path"), errors);
        mode(&file.get("mode"), errors);
        let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
        match (field.is_set(), resource.is_set()) {
            (true, false) => probe::field_reference(&field, &probe::FILE_FIELDS, errors),
            (false, true) => probe::resource_reference(&resource, true, errors),
            (true, true) => {
                errors.invalid(&resource, "fieldRef and resourceFieldRef can not be specified simultaneously")
            }
            (false, false) => errors.required(&file, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}

fn projected(source: &At<'_, '_>, errors: &mut Errors) {
    mode(&source.get("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for projection in source.get("sources").items() {
        let kinds = ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"];
        let count = kinds.iter().filter(|kind| projection.get(kind).is_set()).count();
        if count == 0 {
            errors.required(
                &projection,
                "must specify one of: `secret`, `configMap`, `downwardAPI`, `serviceAccountToken`",
            );
        } else if count > 1 {
            errors.forbidden(&projection, "may not specify more than 1 volume type per source");
        }
        for kind in ["secret", "configMap"] {
            if projection.get(kind).is_set() {
                files(&projection.get(kind), "name", errors);
            }
        }
        downward_files(&projection.get("downwardAPI.items"), errors);
        if projection.get("serviceAccountToken").is_set() {
            service_account_token(&projection.get("serviceAccountToken"), errors);
        }
        for path in projected_paths(&projection) {
            if !paths.insert(path.clone()) {
                errors.invalid_value(source, &Value::from(path), "conflicting duplicate paths");
            }
        }
    }
}

fn projected_paths(projection: &At<'_, '_>) -> Vec<String> {
    let mut paths = Vec::new();
    for list in ["secret.items", "configMap.items", "downwardAPI.items"] {
        paths.extend(projection.get(list).items().map(|item| item.get("path").text().to_owned()));
    }
    paths.push(projection.get("serviceAccountToken.path").text().to_owned());
    paths.retain(|path| !path.is_empty());
    paths
}

fn service_account_token(token: &At<'_, '_>, errors: &mut Errors) {
    let expiration = token.get("expirationSeconds");
    match expiration.number() {
        Some(seconds) if seconds < 600 => {
            errors.invalid(&expiration, "may not specify a duration less than 10 minutes");
        }
        Some(seconds) if seconds > 1 << 32 => {
            errors.invalid(&expiration, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
    let path = token.get("path");
    if path.text().is_empty() {
        errors.required(&path, "");
    } else {
        file_path(&path, errors);
    }
}

/// Checks where a container mounts the volumes of its pod.
pub(super) fn mounts(container: &At<'_, '_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    for mount in container.get("volumeMounts").items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.text().is_empty() {
            errors.required(&name, "");
        }
        if !volumes.contains(name.text()) {
            errors.not_found(&name);
        }
        if path.text().is_empty() {
            errors.required(&path, "");
        }
        if !paths.insert(path.text().to_owned()) {
            errors.invalid(&path, "must be unique");
        }
        let (sub_path, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        descending_path(&sub_path, errors);
        if !sub_path.text().is_empty() && !expression.text().is_empty() {
            errors.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
        }
        descending_path(&expression, errors);
        propagation(&mount.get("mountPropagation"), container, errors);
    }
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if !volumes.contains(name.text()) {
            errors.not_found(&name);
        }
        if path.text().is_empty() {
            errors.required(&path, "");
        } else if !paths.insert(path.text().to_owned()) {
            errors.invalid(&path, "must be unique");
        }
        no_backsteps(&path, errors);
    }
}

fn propagation(propagation: &At<'_, '_>, container: &At<'_, '_>, errors: &mut Errors) {
    if !propagation.is_set() {
        return;
    }
    errors.one_of(propagation, &["Bidirectional", "HostToContainer", "None"]);
    if propagation.text() == "Bidirectional" && !container.get("securityContext.privileged").is_true() {
        errors.forbidden(propagation, "Bidirectional mount propagation is available only to privileged containers");
    }
}

/// Checks that a path stays below where it starts.
pub(super) fn descending_path(path: &At<'_, '_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        errors.invalid(path, "must be a relative path");
    }
    no_backsteps(path, errors);
}

fn no_backsteps(path: &At<'_, '_>, errors: &mut Errors) {
    if path.text().split('/').any(|part| part == "..") {
        errors.invalid(path, "must not contain '..'");
    }
}
