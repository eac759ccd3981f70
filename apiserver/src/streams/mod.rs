//! Logs, exec, attach and port-forward: a client's stream joined to an agent's through the node's tunnel.
//!
//! Authorised as their own subresources before they come here; the right is checked again while they last.

pub(crate) mod agent;
mod exec;
mod frames;
mod logs;
mod portforward;
mod socket;
mod target;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use frames::Decoder;
use std::sync::Arc;

use drover_api::status::ApiError;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    front::{Grant, Request, Response},
    objects::{Objects, PODS},
    request::RequestInfo,
    tunnel::Tunnels,
};
use target::Target;

/// What streams need.
pub(crate) struct Streams {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Streams {
    /// Whether a request is for this module.
    pub(crate) fn serves(info: &RequestInfo) -> bool {
        const SUBRESOURCES: [&str; 4] = ["log", "exec", "attach", "portforward"];
        info.api_group.is_empty()
            && info.api_version == "v1"
            && info.resource == "pods"
            && SUBRESOURCES.contains(&info.subresource.as_str())
            && !info.namespace.is_empty()
            && info.tail.is_empty()
    }

    /// Answers.
    ///
    /// # Errors
    /// 400 for bad parameters and containers, 404 for a pod that is not there, 503 without a tunnel to its node, and
    /// what the agent answers.
    pub(crate) async fn answer(
        &self,
        info: &RequestInfo,
        request: Request,
        grant: Arc<Grant>,
    ) -> Result<Response, ApiError> {
        match info.subresource.as_str() {
            "log" => self.log(info).await,
            "portforward" => self.port_forward(info, request, grant).await,
            _ => self.exec(info, request, grant).await,
        }
    }

    /// Finds pod and container.
    fn target(&self, info: &RequestInfo) -> Result<(Value, Target), ApiError> {
        let pod = self.objects.find(PODS, &info.namespace, &info.name);
        let pod = pod.ok_or_else(|| target::no_such_pod(&info.name))?;
        let target = Target::of(&pod, info.query("container"))?;
        Ok((pod, target))
    }
}
