//! Which objects a container's environment refers to.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Container;

/// Names of objects in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Needs {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

pub(super) fn needs(container: &Container) -> Needs {
    let mut needs = Needs::default();
    for source in container.env_from.iter().flatten() {
        needs.config_maps.extend(source.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        needs.secrets.extend(source.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        needs.config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        needs.secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    needs
}
