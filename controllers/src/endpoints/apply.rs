//! Writes slices. Decides nothing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::plan::Action;
use crate::objects::owners;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, ObjectKey, Result};

/// Carries out the writes in order; goes on past the failure of one and returns the first.
pub(super) async fn apply(
    cluster: &Cluster,
    service: Option<&Service>,
    slices: &[Arc<EndpointSlice>],
    actions: Vec<Action>,
) -> Result<()> {
    let mut first_error = None;
    for action in actions {
        let result = match action {
            Action::Create { slice } => cluster.endpoint_slices.create(&slice).await.map(drop),
            Action::Update { slice } => {
                let uid = owners::uid(&slice.metadata);
                let before = slices.iter().find(|before| owners::uid(&before.metadata) == uid);
                match before {
                    Some(before) => cluster.endpoint_slices.update(before, &slice, None).await.map(drop),
                    None => Ok(()),
                }
            }
            Action::Delete { slice, uid } => {
                let found = slices.iter().find(|before| owners::uid(&before.metadata) == uid);
                let namespace = found.map_or("", |slice| owners::namespace(&slice.metadata));
                cluster.endpoint_slices.delete(&ObjectKey::new(namespace, slice), &DeleteOptions::uid(uid)).await
            }
        };
        if let Err(error) = result
            && !error.is_namespace_terminating()
        {
            first_error.get_or_insert(error);
        }
    }
    match first_error {
        None => Ok(()),
        Some(error) => {
            tracing::debug!(
                service.name = service.map(|service| owners::name(&service.metadata)),
                "slices not all written"
            );
            Err(error)
        }
    }
}
