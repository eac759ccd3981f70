//! Limits of a container.

use std::collections::BTreeMap;

use drover_api::quantity::Quantity;
use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::api::resource};

use super::{BuildInput, ConfigError};
use crate::engine::Resources;

/// A fork bomb must not take the node with it (faults A47); no manifest field asks for another number.
const PIDS_MAX: i64 = 4096;
/// The engine refuses less.
const MEMORY_MIN_BYTES: i64 = 6 * 1024 * 1024;
/// One core, in the kernel's weights (kubelet: 1,000 milli are 1,024 shares, at least 2).
const SHARES_PER_CORE: i64 = 1024;
/// Kubelet's bounds: guaranteed pods die last, best-effort pods first.
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;

pub(super) fn build(input: &BuildInput<'_>) -> Result<Resources, ConfigError> {
    let container = input.container;
    let memory_bytes = amount(container, Side::Limit, "memory")?.map(|quantity| quantity.value().max(MEMORY_MIN_BYTES));
    let cpu_limit = amount(container, Side::Limit, "cpu")?.map(|quantity| quantity.milli_value());
    let cpu_request = amount(container, Side::Request, "cpu")?.map(|quantity| quantity.milli_value()).or(cpu_limit);
    Ok(Resources {
        memory_bytes: memory_bytes.filter(|bytes| *bytes > 0),
        nano_cpus: cpu_limit.filter(|milli| *milli > 0).map(|milli| milli.saturating_mul(1_000_000)),
        cpu_shares: Some((cpu_request.unwrap_or(0) * SHARES_PER_CORE / 1000).max(2)),
        pids: (!drover_api::mutants::active("A47-fork-bomb")).then_some(PIDS_MAX),
        oom_score_adj: oom_score(input, amount(container, Side::Request, "memory")?),
        shm_bytes: None,
    })
}

#[derive(Clone, Copy)]
enum Side {
    Limit,
    Request,
}

fn amount(container: &Container, side: Side, name: &str) -> Result<Option<Quantity>, ConfigError> {
    let Some(resources) = &container.resources else { return Ok(None) };
    let list: Option<&BTreeMap<String, resource::Quantity>> = match side {
        Side::Limit => resources.limits.as_ref(),
        Side::Request => resources.requests.as_ref(),
    };
    let Some(text) = list.and_then(|list| list.get(name)) else { return Ok(None) };
    let parsed = Quantity::parse(&text.0);
    parsed.map(Some).map_err(|error| ConfigError::new(format!("resources: {name} {:?}: {error}", text.0)))
}

/// Kubelet's rule: the more of the node's memory a container asked for, the later it is killed.
fn oom_score(input: &BuildInput<'_>, request: Option<Quantity>) -> i64 {
    let score = match qos_class(input.spec) {
        "Guaranteed" => OOM_GUARANTEED,
        "BestEffort" => OOM_BEST_EFFORT,
        _ => {
            let capacity = i64::try_from(input.node_memory_bytes).unwrap_or(i64::MAX).max(1);
            let share = request.map_or(0, |quantity| quantity.value()).saturating_mul(1000) / capacity;
            (1000 - share).clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
        }
    };
    score.max(input.oom_score_floor)
}

/// The quality-of-service class of a pod (Kubernetes: `Guaranteed`, `Burstable`, `BestEffort`).
pub fn qos_class(spec: &k8s_openapi::api::core::v1::PodSpec) -> &'static str {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        for name in ["cpu", "memory"] {
            let of = |side| {
                let positive = |quantity: &Quantity| !quantity.is_zero();
                amount(container, side, name).ok().flatten().filter(positive).map(|quantity| quantity.milli_value())
            };
            let (limit, request) = (of(Side::Limit), of(Side::Request));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
