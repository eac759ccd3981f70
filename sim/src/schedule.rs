//! What happens in a run and when: a list of faults and actions that a seed determines, and that can be cut.

use std::{fmt, time::Duration};

use crate::{
    chance::Chance,
    faults::{Fault, faults},
    parts::IMAGES,
    user::{Action, action},
};

/// The most nodes of a run.
pub(crate) const NODES_MAX: u64 = 4;
/// Faults a run has at least.
const FAULTS_MIN: u64 = 10;
const FAULTS_MAX: u64 = 18;
const ACTIONS_MIN: u64 = 4;
const ACTIONS_MAX: u64 = 10;
/// How long faults strike.
const SPAN_MIN_MS: u64 = 120_000;
const SPAN_MAX_MS: u64 = 200_000;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something goes wrong.
    Fault(Fault),
    /// A user does something.
    Action(Action),
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(formatter, "fault  {fault:?}"),
            Self::Action(action) => write!(formatter, "action {action:?}"),
        }
    }
}

/// A run's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Determines everything that the list does not: latencies, jitter, names.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// Replicas of each app at the start.
    pub replicas: u32,
    /// In order of time since the start.
    pub events: Vec<(Duration, Event)>,
}

impl Schedule {
    /// Draws the plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let chance = Chance::new(seed).fork("schedule");
        let nodes = usize::try_from(chance.between(2, NODES_MAX)).unwrap_or(3);
        let span = chance.between(SPAN_MIN_MS, SPAN_MAX_MS);
        let at = |chance: &Chance| Duration::from_millis(chance.below(span));
        let mut events = Vec::new();
        for _ in 0..chance.between(ACTIONS_MIN, ACTIONS_MAX) {
            events.push((at(&chance), Event::Action(action(&chance, nodes, IMAGES.len()))));
        }
        let wanted = chance.between(FAULTS_MIN, FAULTS_MAX);
        let mut struck = 0;
        while struck < wanted {
            // Most faults strike while something is going on, which is when they hurt.
            let near = chance.index(events.len());
            let begin = if chance.one_in(3) { at(&chance) } else { events[near].0 };
            let mut begin = begin + Duration::from_millis(chance.below(4_000));
            for fault in faults(&chance, nodes) {
                events.push((begin, Event::Fault(fault)));
                begin += Duration::from_millis(chance.below(6_000));
                struck += 1;
            }
        }
        events.sort_by_key(|(at, _)| *at);
        let replicas = u32::try_from(chance.between(1, 4)).unwrap_or(1);
        Self { seed, nodes, replicas, events }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "seed {:#018x}: {} nodes, {} replicas of each app", self.seed, self.nodes, self.replicas)?;
        for (at, event) in &self.events {
            write!(formatter, "\n  {:>9.3} s  {event}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, FAULTS_MIN, Schedule};

    #[test]
    fn a_seed_determines_its_schedule_and_another_seed_another_one() {
        assert_eq!(Schedule::of_seed(42), Schedule::of_seed(42));
        assert_ne!(Schedule::of_seed(42), Schedule::of_seed(43));
    }

    #[test]
    fn every_schedule_has_its_faults_in_order_of_time() {
        for seed in 0..200 {
            let schedule = Schedule::of_seed(seed);
            let faults = schedule.events.iter().filter(|(_, event)| matches!(event, Event::Fault(_))).count();
            assert!(faults as u64 >= FAULTS_MIN, "{schedule}");
            assert!(schedule.events.is_sorted_by_key(|(at, _)| *at), "{schedule}");
        }
    }
}
