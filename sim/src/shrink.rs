//! Finds a short schedule that still fails: delta debugging over the list of events.

use crate::{
    run::{Depth, Outcome, play},
    schedule::Schedule,
};

/// Runs that shrinking may cost.
const RUNS_MAX: usize = 400;

/// Returns the shortest failing schedule found, and how it fails. `failed` is how the whole one did.
pub fn shrink(schedule: &Schedule, depth: Depth, failed: Outcome) -> (Schedule, Outcome) {
    let rule = rule_of(&failed);
    let mut best = (schedule.clone(), failed);
    let mut runs = 0;
    let mut part = best.0.events.len().div_ceil(2).max(1);
    while runs < RUNS_MAX {
        let mut shorter = None;
        let mut from = 0;
        while from < best.0.events.len() && runs < RUNS_MAX {
            let mut candidate = best.0.clone();
            candidate.events.drain(from..(from + part).min(candidate.events.len()));
            runs += 1;
            let outcome = play(&candidate, depth);
            if !outcome.violations.is_empty() && rule_of(&outcome) == rule {
                shorter = Some((candidate, outcome));
                break;
            }
            from += part;
        }
        match shorter {
            Some(found) => best = found,
            None if part == 1 => break,
            None => part = part.div_ceil(2),
        }
        part = part.min(best.0.events.len().max(1));
    }
    best
}

/// The rule that was broken first: a schedule that fails in another way is another bug.
fn rule_of(outcome: &Outcome) -> Option<String> {
    let first = outcome.violations.first()?;
    first.split_whitespace().find(|word| is_rule(word)).map(str::to_owned)
}

fn is_rule(word: &str) -> bool {
    let mut letters = word.chars();
    matches!(letters.next(), Some('S' | 'L')) && word.len() > 1 && letters.all(|letter| letter.is_ascii_digit())
}
