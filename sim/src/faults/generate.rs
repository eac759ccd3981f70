//! Draws the faults of a schedule.

use super::{Cut, EngineTrouble, Fault, Moment, Part, StoreTrouble};
use crate::chance::Chance;

/// A crash "at the n-th request from now" strikes within a burst of activity for an n of this size.
const REQUESTS_AHEAD: u64 = 40;
/// Operations of an engine that can go wrong.
const OPERATIONS: [&str; 5] = ["create", "start", "stop", "remove", "inspect"];

/// Draws one fault at random. More than one of several that strike together is how real outages look, so a draw may
/// return a small chain: the fault and what strikes during the recovery from it.
pub fn faults(chance: &Chance, nodes: usize) -> Vec<Fault> {
    let first = draw(chance, nodes);
    let recovers = matches!(first, Fault::Crash { .. } | Fault::Reboot { .. } | Fault::Pause { .. });
    if recovers && chance.one_in(3) { vec![first, draw(chance, nodes)] } else { vec![first] }
}

fn draw(chance: &Chance, nodes: usize) -> Fault {
    let part = part(chance, nodes);
    let node = chance.index(nodes);
    match chance.below(31) {
        0..=7 => Fault::Crash { part, moment: moment(chance), down_ms: chance.between(50, 8_000) },
        // Half of the pauses outlive a node's lease of 40 seconds.
        8 => Fault::Pause { part, ms: if chance.one_in(2) { chance.between(200, 20_000) } else { 55_000 } },
        9 => Fault::Cut { part, cut: Cut::Requests, ms: chance.between(500, 50_000) },
        10 => Fault::Cut { part, cut: Cut::Replies, ms: chance.between(500, 50_000) },
        11 => Fault::Cut { part, cut: Cut::Both, ms: chance.between(500, 70_000) },
        12 => Fault::Flap { part, period_ms: chance.between(100, 10_000), ms: chance.between(5_000, 30_000) },
        13 => Fault::Slow { part, by_ms: chance.between(20, 3_000), ms: chance.between(2_000, 30_000) },
        14 | 15 => Fault::LoseReply { part, nth: chance.below(REQUESTS_AHEAD) },
        16 => Fault::BreakWatches { part },
        17 => Fault::ForgetHistory { part, ms: chance.between(10, 5_000) },
        18 => Fault::StaleWatches { part, ms: chance.between(100, 15_000) },
        19 => Fault::DuplicateEvents { part, ms: chance.between(1_000, 20_000) },
        20 => {
            let secs = i64::try_from(chance.between(1, 4_000)).unwrap_or(1) * if chance.one_in(2) { -1 } else { 1 };
            Fault::ClockJump { part, secs, ms: chance.between(1_000, 60_000) }
        }
        21 => Fault::Store { trouble: store_trouble(chance), ms: chance.between(100, 15_000) },
        22 => Fault::Compact,
        23 | 24 => Fault::Engine { node, trouble: engine_trouble(chance), ms: chance.between(500, 20_000) },
        25 | 26 => Fault::ContainerEnds { node, which: chance.below(1 << 16) },
        27 => Fault::Reboot { node, down_ms: chance.between(1_000, 70_000) },
        28 | 29 => Fault::HostSilent { node, cut: chance.one_in(2), ms: chance.between(500, 30_000) },
        _ => Fault::Deaf { node, neighbour: chance.index(nodes), ms: chance.between(500, 30_000) },
    }
}

fn part(chance: &Chance, nodes: usize) -> Part {
    match chance.below(6) {
        0 | 1 => Part::Server,
        2 => Part::Controllers(0),
        3 => Part::Controllers(1),
        _ => Part::Agent(chance.index(nodes)),
    }
}

fn moment(chance: &Chance) -> Moment {
    let n = chance.below(REQUESTS_AHEAD);
    match chance.below(5) {
        0 | 1 => Moment::AfterEffect(n),
        2 => Moment::BeforeRequest(n),
        3 => Moment::AfterReply(n),
        _ => Moment::Now,
    }
}

fn store_trouble(chance: &Chance) -> StoreTrouble {
    match chance.below(4) {
        0 => StoreTrouble::Refuses,
        1 => StoreTrouble::LosesReplies,
        2 => StoreTrouble::Slow,
        _ => StoreTrouble::Full,
    }
}

fn engine_trouble(chance: &Chance) -> EngineTrouble {
    let operation = OPERATIONS[chance.index(OPERATIONS.len())];
    match chance.below(6) {
        0 | 1 => EngineTrouble::Fails(operation),
        2 => EngineTrouble::LosesReplies(operation),
        3 => EngineTrouble::Hangs(operation),
        4 => EngineTrouble::LosesEvents,
        _ => EngineTrouble::Slow,
    }
}
