//! What every namespace must have before a pod can run in it: the default ServiceAccount and the cluster's CA.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::ObjectMeta;

use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::cluster::ROOT_CA_CONFIG_MAP;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, Resource, WorkQueue};

/// The account that pods get when they name none.
const DEFAULT: &str = "default";

/// Keeps the default ServiceAccount in every namespace.
#[derive(Debug)]
pub struct ServiceAccountController {
    cluster: Cluster,
}

/// Keeps the cluster's CA certificates in every namespace.
#[derive(Debug)]
pub struct RootCaController {
    cluster: Cluster,
    ca_pem: String,
}

/// Builds the ServiceAccount controller and registers what wakes it.
pub fn register_accounts(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    wake_on_namespaces(&cluster, queue);
    let own = queue.clone();
    cluster.service_accounts.on_change(move |change| {
        let gone = change.before.as_ref().filter(|_| change.after.is_none());
        if let Some(account) = gone.filter(|account| owners::name(&account.metadata) == DEFAULT) {
            own.add(ObjectKey::cluster(owners::namespace(&account.metadata)));
        }
    });
    Arc::new(ServiceAccountController { cluster })
}

/// Builds the CA publisher and registers what wakes it.
pub fn register_root_ca(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    wake_on_namespaces(&cluster, queue);
    let own = queue.clone();
    cluster.root_ca_config_maps.on_change(move |change| {
        for map in change.versions() {
            own.add(ObjectKey::cluster(owners::namespace(&map.metadata)));
        }
    });
    Arc::new(RootCaController { cluster, ca_pem: context.config.ca_pem.clone() })
}

fn wake_on_namespaces(cluster: &Cluster, queue: &WorkQueue) {
    let own = queue.clone();
    cluster.namespaces.on_change(move |change| {
        change.versions().take(1).for_each(|namespace| own.add(ObjectKey::of(&**namespace)));
    });
}

/// Whether objects can be made in a namespace.
fn is_open(namespaces: &Resource<Namespace>, key: &ObjectKey) -> bool {
    namespaces.cache().get(key).is_some_and(|namespace| !owners::is_terminating(&namespace.metadata))
}

/// A create that lost a race, against another writer or against the namespace's end, has nothing left to do.
fn created<T>(result: Result<T, Error>) -> Result<Outcome, Error> {
    match result {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(Outcome::DONE),
        other => other.map(|_| Outcome::DONE),
    }
}

#[async_trait::async_trait]
impl Controller for ServiceAccountController {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.namespaces.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.service_accounts.caught_up().await?;
        let account = ObjectKey::new(key.name.clone(), DEFAULT);
        let exists = self.cluster.service_accounts.cache().get(&account).is_some();
        if exists || !is_open(&self.cluster.namespaces, key) {
            return Ok(Outcome::DONE);
        }
        let metadata = named(&account);
        created(self.cluster.service_accounts.create(&ServiceAccount { metadata, ..ServiceAccount::default() }).await)
    }
}

#[async_trait::async_trait]
impl Controller for RootCaController {
    fn name(&self) -> &'static str {
        "rootca"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.namespaces.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.root_ca_config_maps.caught_up().await?;
        if self.ca_pem.is_empty() || !is_open(&self.cluster.namespaces, key) {
            return Ok(Outcome::DONE);
        }
        let name = ObjectKey::new(key.name.clone(), ROOT_CA_CONFIG_MAP);
        let data = Some(BTreeMap::from([("ca.crt".to_owned(), self.ca_pem.clone())]));
        match self.cluster.root_ca_config_maps.cache().get(&name) {
            None => {
                let map = ConfigMap { metadata: named(&name), data, ..ConfigMap::default() };
                created(self.cluster.root_ca_config_maps.create(&map).await)
            }
            Some(map) => {
                let after = ConfigMap { data, ..(*map).clone() };
                self.cluster.root_ca_config_maps.update(&map, &after, None).await?;
                Ok(Outcome::DONE)
            }
        }
    }
}

fn named(key: &ObjectKey) -> ObjectMeta {
    ObjectMeta { name: Some(key.name.clone()), namespace: Some(key.namespace.clone()), ..ObjectMeta::default() }
}
