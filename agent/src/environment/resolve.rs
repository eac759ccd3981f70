//! The environment of a container from values that were looked up: pure.

use std::collections::BTreeMap;

use drover_api::placement;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use super::{fields, services};
use crate::{
    config::expand,
    seams::{EnvironmentError, PodFacts},
};

/// What was looked up. An object that is not there is not in its map.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookups<'a> {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
    pub services: Vec<&'a Service>,
}

/// An environment, with what had to be left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Environment {
    pub variables: Vec<(String, String)>,
    /// Sentences about names that cannot be variables.
    pub notes: Vec<String>,
}

pub(super) fn resolve(
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
    lookups: &Lookups<'_>,
) -> Result<Environment, EnvironmentError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    // Later variables win, so that what the pod's author says goes before what Services say.
    let mut builder = Builder::default();
    for (name, value) in services::variables(&lookups.services, namespace, links) {
        builder.set(name, value);
    }
    add_sources(&mut builder, container, namespace, lookups)?;
    // What says where the pod goes is not for the container, as in classic Swarm.
    let own = container.env.iter().flatten().filter(|variable| !placement::is_entry(&variable.name));
    for variable in own {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &builder.environment.variables)),
            Some(source) => value_from(pod, container, facts, lookups, source)?,
        };
        if let Some(value) = value {
            builder.set(variable.name.clone(), value);
        }
    }
    Ok(builder.environment)
}

#[derive(Debug, Default)]
struct Builder {
    environment: Environment,
}

impl Builder {
    /// Puts a variable last; an earlier one of that name is gone.
    fn set(&mut self, name: String, value: String) {
        self.environment.variables.retain(|(known, _)| *known != name);
        self.environment.variables.push((name, value));
    }

    fn set_all(&mut self, prefix: &str, source: &str, pairs: impl Iterator<Item = (String, String)>) {
        let mut invalid = Vec::new();
        for (key, value) in pairs {
            let name = format!("{prefix}{key}");
            if is_variable_name(&name) { self.set(name, value) } else { invalid.push(name) }
        }
        if !invalid.is_empty() {
            let names = invalid.join(", ");
            self.environment.notes.push(format!(
                "Keys [{names}] from the EnvFrom {source} were skipped since they are considered invalid environment \
                 variable names."
            ));
        }
    }
}

/// Any printable ASCII but `=`, as Kubernetes has it since 1.32.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

fn add_sources(
    builder: &mut Builder,
    container: &Container,
    namespace: &str,
    lookups: &Lookups<'_>,
) -> Result<(), EnvironmentError> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let name = &reference.name;
            match lookups.config_maps.get(name) {
                Some(found) => {
                    let pairs = found.data.clone().unwrap_or_default();
                    builder.set_all(prefix, &format!("configMap {namespace}/{name}"), pairs.into_iter());
                }
                None if reference.optional == Some(true) => {}
                None => return Err(error(format!("configmap {name:?} not found"))),
            }
        }
        if let Some(reference) = &source.secret_ref {
            let name = &reference.name;
            match lookups.secrets.get(name) {
                Some(found) => {
                    let pairs = found.data.iter().flatten();
                    let pairs = pairs.map(|(key, value)| (key.clone(), text(&value.0)));
                    builder.set_all(prefix, &format!("secret {namespace}/{name}"), pairs);
                }
                None if reference.optional == Some(true) => {}
                None => return Err(error(format!("secret {name:?} not found"))),
            }
        }
    }
    Ok(())
}

/// `None` when an optional source is not there.
fn value_from(
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
    lookups: &Lookups<'_>,
    source: &EnvVarSource,
) -> Result<Option<String>, EnvironmentError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.field_ref {
        let path = &reference.field_path;
        let value = fields::field(pod, facts, path);
        return value.map(Some).ok_or_else(|| error(format!("unsupported fieldPath: {path}")));
    }
    if let Some(reference) = &source.resource_field_ref {
        let other = reference.container_name.as_deref().filter(|name| !name.is_empty());
        let subject = match other {
            None => Some(container),
            Some(name) => find_container(pod, name),
        };
        let subject = subject.ok_or_else(|| error(format!("container {} not found", other.unwrap_or_default())))?;
        return fields::resource(subject, reference, facts).map(Some).map_err(error);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let (name, key, optional) = (&reference.name, &reference.key, reference.optional == Some(true));
        let Some(found) = lookups.config_maps.get(name) else {
            return missing(optional, || format!("configmap {name:?} not found"));
        };
        let value = found.data.as_ref().and_then(|data| data.get(key)).cloned();
        return match value {
            Some(value) => Ok(Some(value)),
            None => missing(optional, || format!("couldn't find key {key} in ConfigMap {namespace}/{name}")),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let (name, key, optional) = (&reference.name, &reference.key, reference.optional == Some(true));
        let Some(found) = lookups.secrets.get(name) else {
            return missing(optional, || format!("secret {name:?} not found"));
        };
        let value = found.data.as_ref().and_then(|data| data.get(key)).map(|value| text(&value.0));
        return match value {
            Some(value) => Ok(Some(value)),
            None => missing(optional, || format!("couldn't find key {key} in Secret {namespace}/{name}")),
        };
    }
    Ok(Some(String::new()))
}

/// Finds a container or init container of a pod.
pub(crate) fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

fn missing(optional: bool, sentence: impl FnOnce() -> String) -> Result<Option<String>, EnvironmentError> {
    if optional { Ok(None) } else { Err(error(sentence())) }
}

/// A variable is text; what is not UTF-8 cannot be passed through the engine's API.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn error(message: String) -> EnvironmentError {
    EnvironmentError { message }
}

#[cfg(test)]
mod tests;
