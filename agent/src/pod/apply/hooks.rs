//! Runs postStart and preStop hooks.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};

use crate::{engine::run_exec, ids::ContainerId, pod::context::Context, seams::ProbeSubject};

/// What a hook may say at most.
const OUTPUT_MAX: usize = 1024;

/// Runs a hook to its end, at most for `limit`. An error is the sentence for the event.
pub(in crate::pod) async fn run_hook(
    context: &Context,
    container: &Container,
    id: &ContainerId,
    address: Option<IpAddr>,
    handler: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(());
    }
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match run_exec(context.engine.as_ref(), id, &command, limit, OUTPUT_MAX).await {
            Ok((0, _)) => Ok(()),
            Ok((code, output)) => {
                Err(format!("command '{}' exited with {code}: {}", command.join(" "), String::from_utf8_lossy(&output)))
            }
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(get) = &handler.http_get {
        let probe = Probe { http_get: Some(get.clone()), ..Default::default() };
        return context.prober.probe(ProbeSubject { id, container, address }, &probe, limit).await;
    }
    Err("the hook has no handler that is supported".to_owned())
}
