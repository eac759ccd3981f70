//! How far a rollout may go above and below the number of replicas. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The numbers a rollout keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pods wanted.
    pub replicas: i32,
    /// Pods allowed above `replicas`.
    pub surge: i32,
    /// Pods allowed to be unavailable.
    pub unavailable: i32,
    /// Whether old and new pods may run side by side.
    pub rolling: bool,
}

impl Limits {
    /// Reads the limits of a Deployment. Percentages of the surge round up, those of the unavailable round down, and
    /// when both come to nothing one pod may be unavailable, for otherwise a rollout could never begin.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate");
        if !rolling {
            return Self { replicas, surge: 0, unavailable: 0, rolling };
        }
        let bounds = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = bounds.and_then(|bounds| bounds.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = bounds.and_then(|bounds| bounds.max_unavailable.as_ref()).unwrap_or(&quarter);
        Self::resolve(replicas, surge, unavailable)
    }

    /// Resolves the bounds of a rolling update.
    pub fn resolve(replicas: i32, surge: &IntOrString, unavailable: &IntOrString) -> Self {
        let surge = share(surge, replicas, true);
        let mut unavailable = share(unavailable, replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas), rolling: true }
    }

    /// The most pods there may be.
    pub fn total_max(&self) -> i32 {
        let extra = i32::from(drover_api::mutants::active("F01-one-over-the-surge"));
        self.replicas.saturating_add(self.surge).saturating_add(extra)
    }

    /// The fewest pods that must be available.
    pub fn available_min(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// Resolves a number or a percentage of `total`. Text that is neither counts as zero; validation refuses it.
pub(crate) fn share(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0).max(0);
            let scaled = percent.saturating_mul(i64::from(total));
            let resolved = if round_up { scaled.saturating_add(99) / 100 } else { scaled / 100 };
            i32::try_from(resolved).unwrap_or(i32::MAX)
        }
    }
}
