//! S7: what is not ours stays as it was.
//!
//! Docker hosts are shared. A container that we did not make, whatever its name and labels, is neither stopped, started
//! nor removed by us.

use std::collections::BTreeMap;

use crate::{Container, Violation, World};

/// Compares the containers that were there before us, by node, with what `world` shows of the same nodes. Nodes that
/// cannot be seen are left out.
pub fn check_foreign(before: &BTreeMap<String, Vec<Container>>, world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (node, containers) in before {
        let Some(host) = world.hosts.get(node) else { continue };
        for container in containers {
            let now = host.containers.iter().find(|other| other.name == container.name);
            let message = match now {
                Some(now) if now == container => continue,
                Some(now) => format!("was {container:?} and is {now:?}"),
                None => format!("was {:?} and is gone", container.phase),
            };
            violations.push(Violation::new("S7", format!("container {} on {node}", container.name), message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerPhase, testing::good};

    fn foreign() -> Container {
        Container {
            name: "somebody-elses".to_owned(),
            pod_uid: None,
            container: String::new(),
            attempt: 0,
            phase: ContainerPhase::Running,
            starts: 1,
        }
    }

    #[test]
    fn a_foreign_container_must_be_as_it_was() {
        let before = BTreeMap::from([("n1".to_owned(), vec![foreign()]), ("unseen".to_owned(), vec![foreign()])]);
        let check = |now: Option<Container>| {
            let mut world = good();
            world.hosts.entry("n1".to_owned()).or_default().containers.extend(now);
            check_foreign(&before, &world).len()
        };
        assert_eq!(check(Some(foreign())), 0);
        assert_eq!(check(None), 1, "removed");
        assert_eq!(check(Some(Container { phase: ContainerPhase::Exited, ..foreign() })), 1, "stopped");
        assert_eq!(check(Some(Container { starts: 2, ..foreign() })), 1, "restarted");
    }
}
