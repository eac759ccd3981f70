//! What a pod asks of a node, and what a node has: amounts of resources.

use std::collections::BTreeMap;
use std::fmt;

use drover_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// Amounts by resource name: `cpu` in thousandths of a core, everything else in units or bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// Reads a resource list. A quantity that cannot be read counts as nothing: validation has refused it before.
    pub fn read(list: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let amounts = list.into_iter().flatten().filter_map(|(name, quantity)| {
            let quantity = Quantity::parse(&quantity.0).ok()?;
            let amount = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            Some((name.clone(), amount))
        });
        Self(amounts.collect())
    }

    /// Returns the amount of one resource, 0 when it is not named.
    pub fn of(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Iterates over names and amounts in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds other amounts.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes other amounts away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_insert(0);
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// Raises each amount to at least that of `other`.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_insert(0);
            *most = (*most).max(*amount);
        }
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        formatter.write_str(&parts.join(" "))
    }
}

/// Returns what a pod asks for at its worst moment: the sum of its containers and sidecars, or the largest init
/// container with the sidecars started before it, plus overhead (KEP-753's rule).
pub fn of_pod(spec: &PodSpec) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of_container(container));
    }
    let mut sidecars = Amounts::default();
    let mut starting = Amounts::default();
    for init in spec.init_containers.iter().flatten() {
        let asked = of_container(init);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&asked);
            starting.raise(&sidecars);
        } else {
            let mut moment = asked;
            moment.add(&sidecars);
            starting.raise(&moment);
        }
    }
    running.add(&sidecars);
    running.raise(&starting);
    running.add(&Amounts::read(spec.overhead.as_ref()));
    running
}

fn of_container(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    Amounts::read(resources.and_then(|resources| resources.requests.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, expected: &str) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(of_pod(&spec).to_string(), expected);
    }

    fn container(name: &str, cpu: &str) -> serde_json::Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn containers_add_up() {
        check(json!({"containers": [container("a", "250m"), container("b", "1")]}), "cpu=1250");
    }

    #[test]
    fn an_init_container_counts_only_beyond_the_containers() {
        check(json!({"containers": [container("a", "1")], "initContainers": [container("i", "3")]}), "cpu=3000");
        check(json!({"containers": [container("a", "4")], "initContainers": [container("i", "3")]}), "cpu=4000");
    }

    #[test]
    fn a_sidecar_runs_beside_later_init_containers_and_beside_the_containers() {
        let mut sidecar = container("s", "1");
        sidecar["restartPolicy"] = "Always".into();
        check(
            json!({"containers": [container("a", "1")], "initContainers": [sidecar, container("i", "3")]}),
            "cpu=4000",
        );
    }

    #[test]
    fn overhead_is_added_and_memory_counts_bytes() {
        let asked = json!({"name": "a", "resources": {"requests": {"memory": "1Ki"}}});
        check(json!({"containers": [asked], "overhead": {"memory": "1k"}}), "memory=2024");
    }
}
