//! L2 and L4: at rest nothing is written, and no key waits.
//!
//! A controller that answers its own writes, or two that undo each other's, never come to rest: at steady state nothing
//! durable is written at all, and even what keeps failing backs off. A key that is due is worked on soon.

use crate::{Violation, World, facts};

/// From then on, the last minute was a quiet one.
const REST_SECS: f64 = 120.0;
/// What counts as the last minute, with room for what follows a start.
const MINUTE_SECS: f64 = 70.0;
/// Writes a minute that each failing pod may cost an object: back-off allows a few.
const FAILING_WRITES_MAX: u64 = 12;
/// The longest that a key that is due may wait for its worker.
const WAIT_SECS_MAX: f64 = 10.0;

pub(crate) fn check(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    if world.quiet_secs >= REST_SECS {
        let failing = world.pods.iter().filter(|pod| {
            let ready = facts::is_active(pod) && facts::is_true(pod, "Ready");
            !ready || facts::changed_within(pod, world.now, MINUTE_SECS)
        });
        let failing = facts::count(failing).unsigned_abs();
        let settled = failing == 0 && world.nodes.iter().all(facts::is_node_ready);
        // What sums pods up changes with each of them.
        let limit = if settled { 0 } else { FAILING_WRITES_MAX * failing.max(1) };
        for (object, writes) in world.recent_writes.iter().filter(|(_, writes)| **writes > limit) {
            let message = format!("was written {writes} times in the last quiet minute, at most {limit} are needed");
            violations.push(Violation::new("L2", object, message));
        }
    }
    if world.quiet_secs >= WAIT_SECS_MAX {
        for (queue, secs) in world.queue_waits_secs.iter().filter(|(_, secs)| **secs > WAIT_SECS_MAX) {
            violations.push(Violation::new(
                "L4",
                format!("queue {queue}"),
                format!("its oldest key waits for {secs} s"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{check_tables, object, unscheduled};

    #[test]
    fn at_rest_nothing_is_written_and_nothing_waits() {
        check_tables(&[
            (
                "a write at rest",
                &|world| {
                    world.quiet_secs = 121.0;
                    world.recent_writes.insert("Deployment/d/web".into(), 1);
                },
                &["L2"],
            ),
            (
                "while something fails",
                &|world| {
                    world.quiet_secs = 121.0;
                    world.pods.push(unscheduled(9, "100"));
                    world.recent_writes.insert("Pod/d/web-9".into(), 3);
                },
                &[],
            ),
            (
                "while a container that is up again for now fails at long intervals",
                &|world| {
                    world.quiet_secs = 121.0;
                    let status = world.pods[0].status.get_or_insert_default();
                    let state = &mut status.container_statuses.get_or_insert_default()[0].state;
                    state.get_or_insert_default().running.get_or_insert_default().started_at =
                        Some(object(&json!("2026-01-01T11:59:30Z")));
                    world.recent_writes.insert("Deployment/d/web".into(), 1);
                },
                &[],
            ),
            (
                "a hot loop while something fails",
                &|world| {
                    world.quiet_secs = 121.0;
                    world.pods.push(unscheduled(9, "100"));
                    world.recent_writes.insert("Pod/d/web-9".into(), 300);
                },
                &["L2"],
            ),
            (
                "a starved key",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.queue_waits_secs.insert("deployment".into(), 11.0);
                },
                &["L4"],
            ),
        ]);
    }
}
