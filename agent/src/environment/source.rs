//! Fetches what an environment refers to, and reports what was left out of it.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use kube::{Api, Client};

use super::{
    needs::needs,
    resolve::{Lookups, resolve},
};
use crate::{
    seams::{EnvironmentError, PodEnvironment, PodFacts},
    source::{Informer, Recorder},
};

/// A container must not start without its service variables; the life cycle retries.
const SERVICES_WAIT: Duration = Duration::from_secs(10);

/// [`PodEnvironment`] over the Kubernetes API.
#[derive(Clone)]
pub struct ApiEnvironment {
    client: Client,
    services: Informer<Service>,
    recorder: Recorder,
}

impl ApiEnvironment {
    /// Reads ConfigMaps and Secrets through `client` and Services from the informer of all namespaces.
    pub fn new(client: Client, services: Informer<Service>, recorder: Recorder) -> Self {
        Self { client, services, recorder }
    }
}

impl fmt::Debug for ApiEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiEnvironment")
    }
}

#[async_trait]
impl PodEnvironment for ApiEnvironment {
    async fn resolve(
        &self,
        pod: &Pod,
        container: &Container,
        facts: &PodFacts,
    ) -> Result<Vec<(String, String)>, EnvironmentError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        if tokio::time::timeout(SERVICES_WAIT, self.services.synced()).await.is_err() {
            let message = "services have not yet been read at least once, cannot construct envvars";
            return Err(EnvironmentError { message: message.to_owned() });
        }
        let services = self.services.list();
        let mut lookups = Lookups { services: services.iter().map(AsRef::as_ref).collect(), ..Default::default() };
        let needs = needs(container);
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        for name in needs.config_maps {
            let found = config_maps.get_opt(&name).await.map_err(|error| failed("configmap", &name, &error))?;
            lookups.config_maps.extend(found.map(|found| (name, found)));
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        for name in needs.secrets {
            let found = secrets.get_opt(&name).await.map_err(|error| failed("secret", &name, &error))?;
            lookups.secrets.extend(found.map(|found| (name, found)));
        }
        let environment = resolve(pod, container, facts, &lookups)?;
        for note in &environment.notes {
            self.recorder.pod(pod, Some(&container.name), true, "InvalidEnvironmentVariableNames", note);
        }
        Ok(environment.variables)
    }
}

fn failed(kind: &str, name: &str, error: &kube::Error) -> EnvironmentError {
    EnvironmentError { message: format!("failed to fetch {kind} {name:?}: {error}") }
}
