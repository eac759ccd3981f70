//! Holders: for each pod one container that does nothing but keep the pod's name space and address.

use std::{collections::BTreeMap, sync::Arc};

use super::{engine_network::network_name, image::PROGRAM};
use crate::{
    config::Owner,
    engine::{ContainerConfig, ContainerPhase, ContainerSummary, Engine, EngineError, ErrorKind, Resources, Security},
    ids::PodUid,
    ledger::Ledger,
    network::records::Record,
};

const POD_UID: &str = "dev.drover.pod.uid";
const POD_NAME: &str = "dev.drover.pod.name";
const POD_NAMESPACE: &str = "dev.drover.pod.namespace";
/// The bridge whose pod the holder holds. Containers of pods lack this label and have one that holders lack.
const HOLDER: &str = "dev.drover.holder";
const ADDRESS: &str = "dev.drover.address";
const SEAL: &str = "dev.drover.seal";

/// A failed step on a holder.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A container of the holder's name is not ours.
    #[error("container {name} is not Drover's")]
    Foreign {
        /// The name.
        name: String,
    },
    /// Something else in the engine's network has the pod's address.
    #[error("address {address} is in use by another container")]
    AddressTaken {
        /// The address.
        address: std::net::Ipv4Addr,
    },
    /// It ended at once, or is being removed.
    #[error("container {name} does not run")]
    Ended {
        /// The name.
        name: String,
    },
}

/// A holder that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) pid: u32,
    /// Whether it had to be started.
    pub(super) started: bool,
}

/// The holders of one network.
#[derive(Debug)]
pub(super) struct Holders {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) ledger: Ledger,
    pub(super) owner: Owner,
    pub(super) bridge: String,
    pub(super) image: String,
    pub(super) oom_score_adj: i64,
}

/// The holder's name: known from the pod's uid alone, so that other containers can name it before and after it is made
/// anew. No container of a pod is called `POD`: their names are lower-case.
pub(super) fn holder_name(pod: &PodUid) -> String {
    format!("drover_POD_{pod}")
}

impl Holders {
    /// Makes the pod's holder run: finds it, starts it again, or makes it.
    pub(super) async fn hold(&self, pod: &PodUid, record: &Record) -> Result<Held, HolderError> {
        let name = holder_name(pod);
        let mut found = self.find(pod).await?;
        if let Some(stale) = found.take_if(|found| found.labels.get(ADDRESS) != Some(&record.address.to_string())) {
            // Of an earlier boot of this host: records do not outlive one.
            self.engine.remove_container(&stale.id).await?;
        }
        let started = found.as_ref().is_none_or(|found| found.phase != ContainerPhase::Running);
        let id = match found {
            Some(found) if found.phase == ContainerPhase::Removing => return Err(HolderError::Ended { name }),
            Some(found) => found.id,
            None => self.engine.create_container(&name, &self.config(pod, record)).await?,
        };
        if started && let Err(error) = self.engine.start_container(&id).await {
            let taken = error.message.to_ascii_lowercase().contains("address already in use");
            return Err(if taken { HolderError::AddressTaken { address: record.address } } else { error.into() });
        }
        let pid = self.engine.inspect_container(id.as_str()).await?.pid;
        Ok(Held { pid: pid.ok_or(HolderError::Ended { name })?, started })
    }

    /// Removes the pod's holder, if it has one. A container of its name that is not ours stays.
    pub(super) async fn remove(&self, pod: &PodUid) -> Result<(), HolderError> {
        match self.find(pod).await {
            Ok(Some(found)) => Ok(self.engine.remove_container(&found.id).await?),
            Ok(None) | Err(HolderError::Foreign { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All holders of this network that are ours.
    pub(super) async fn list(&self) -> Result<Vec<(PodUid, ContainerSummary)>, HolderError> {
        let mut labels = self.owner.filter();
        labels.push((HOLDER.to_owned(), self.bridge.clone()));
        let listed = self.engine.list_containers(&labels).await?;
        let pod = |container: &ContainerSummary| container.labels.get(POD_UID).and_then(|uid| PodUid::new(uid));
        let holders = listed.into_iter().filter_map(|container| Some((pod(&container)?, container)));
        Ok(holders.filter(|(pod, container)| self.owns(pod, container)).collect())
    }

    async fn find(&self, pod: &PodUid) -> Result<Option<ContainerSummary>, HolderError> {
        let name = holder_name(pod);
        match self.engine.inspect_container(&name).await {
            Ok(found) if self.owns(pod, &found.summary) => Ok(Some(found.summary)),
            Ok(_foreign) => Err(HolderError::Foreign { name }),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Labels alone prove nothing, an image can bring its own: the ledger's seal does.
    fn owns(&self, pod: &PodUid, container: &ContainerSummary) -> bool {
        let name = holder_name(pod);
        let labelled = |key: &str, value: &str| container.labels.get(key).is_some_and(|present| present == value);
        container.name == name && labelled(POD_UID, pod.as_str()) && labelled(SEAL, &self.ledger.seal(&name))
    }

    fn config(&self, pod: &PodUid, record: &Record) -> ContainerConfig {
        let own = [
            (HOLDER, self.bridge.clone()),
            (POD_UID, pod.to_string()),
            (POD_NAME, record.name.clone()),
            (POD_NAMESPACE, record.namespace.clone()),
            (ADDRESS, record.address.to_string()),
            (SEAL, self.ledger.seal(&holder_name(pod))),
        ];
        let mut labels: BTreeMap<String, String> = self.owner.filter().into_iter().collect();
        labels.extend(own.map(|(key, value)| (key.to_owned(), value)));
        ContainerConfig {
            image: self.image.clone(),
            entrypoint: Some(vec![PROGRAM.to_owned()]),
            labels,
            // Nobody: it only sleeps.
            user: Some("65534:65534".to_owned()),
            // The engine gives it to all containers that join the holder's network.
            hostname: Some(record.hostname.clone()).filter(|name| !name.is_empty()),
            network_mode: network_name(&self.bridge),
            ipv4: Some(record.address),
            resources: Resources { oom_score_adj: self.oom_score_adj, ..Default::default() },
            security: Security {
                cap_drop: vec!["ALL".to_owned()],
                read_only_root: true,
                no_new_privileges: true,
                ..Default::default()
            },
            // It handles no signal, and an engine that stops would wait for it.
            stop_signal: Some("SIGKILL".to_owned()),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests;
