//! The OpenAPI v3 documents, one a group and version, generated from the schema table.
//!
//! kubectl reads three things here: the schemas with their merge keys, to compute what `apply` sends; the media types
//! of the PATCH operation of a kind, to choose the form of that patch; and its `fieldValidation` parameter, to leave
//! validation to the server. `kubectl explain` reads the rest.

mod paths;
mod schemas;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::kinds::{self, Kind};

/// Returns the document of a group and version (`""` and `v1` for the core group), or `None` for one not served.
pub fn v3(group: &str, version: &str) -> Option<Value> {
    let served: Vec<&'static Kind> =
        kinds::all().iter().filter(|kind| kind.group == group && kind.version == version).collect();
    let mut roots = BTreeSet::new();
    let mut all_paths = Map::new();
    for kind in &served {
        roots.insert(kind.type_name.to_owned());
        paths::add(kind, &mut all_paths, &mut roots);
    }
    (!served.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Drover", "version": "v1.33.0"},
            "paths": all_paths,
            "components": {"schemas": schemas::reachable_from(&roots)},
        })
    })
}

/// Returns what `/openapi/v3` answers: where the document of each group and version is, with a hash of its content,
/// by which clients cache it.
pub fn v3_index() -> &'static Value {
    static INDEX: LazyLock<Value> = LazyLock::new(|| {
        let mut found = Map::new();
        for (group, version) in kinds::group_versions() {
            let path = root_path(group, version);
            let document = v3(group, version).map(|document| document.to_string()).unwrap_or_default();
            let hash: String = Sha256::digest(document).iter().take(16).map(|byte| format!("{byte:02X}")).collect();
            found.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
        }
        json!({ "paths": found })
    });
    &INDEX
}

/// Returns `api/v1` or `apis/apps/v1`.
fn root_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
