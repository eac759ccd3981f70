//! Runs postStart and preStop hooks.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::{
    engine::run_exec,
    ids::ContainerId,
    pod::context::Context,
    probes::{HttpRequest, http_get, resolve_port},
};

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
        let port = resolve_port(&get.port, container).ok_or_else(|| format!("unknown port {:?}", get.port))?;
        let host = get.host.clone().or_else(|| address.map(|ip| ip.to_string()));
        let request = HttpRequest::new(get, host.unwrap_or_default(), port);
        return http_get(&request, limit).await.map(drop);
    }
    Err("the hook has no handler that is supported".to_owned())
}
