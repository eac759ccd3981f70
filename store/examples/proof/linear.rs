//! Is there one order of all calls, true to their overlaps, in which every answer is right?
//!
//! In general that is a search (Wing and Gong). Here the store itself names the order of the writes: a revision is
//! part of every answer and must increase. So each call has a set of places in that order at which its answer is right,
//! and the earliest place that is not before a call that ended earlier is always the best one: one pass decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use drover_store::{Changes, Compare, EventKind, KeyValue, Operation, Revision, Transaction, TransactionResult};

use crate::history::{Call, What};
use crate::log::Log;

/// Where an answer is right.
enum Place {
    /// A write of this revision.
    Write(Revision),
    /// A read of the state at exactly this revision.
    At(Revision),
    /// A read of one key, right wherever the key is so.
    WhereKeyIs,
    /// Anywhere.
    Free,
}

/// Checks a history against the log. `compacted` is the highest revision anybody asked to compact at.
pub(crate) fn check(mut calls: Vec<Call>, log: &Log, compacted: Revision, faults: &mut Vec<String>) {
    calls.sort_by_key(|call| call.start);
    let mut claimed = BTreeMap::new();
    let mut placed: Vec<(&Call, Place)> = Vec::new();
    for call in &calls {
        match place(call, log, compacted) {
            Ok(Some(Place::Write(revision))) => match claimed.get(&revision) {
                None => {
                    claimed.insert(revision, placed.len());
                    placed.push((call, Place::Write(revision)));
                }
                // Two deletes of one key may be told the same revision: one of them found nothing to do. When both
                // may be that one, the one that began first is not.
                Some(_) if nothing_to_do(call, revision, log) => placed.push((call, Place::At(revision))),
                Some(&other) if nothing_to_do(placed[other].0, revision, log) => {
                    placed[other].1 = Place::At(revision);
                    claimed.insert(revision, placed.len());
                    placed.push((call, Place::Write(revision)));
                }
                Some(&other) => {
                    let client = placed[other].0.client;
                    faults.push(format!("revision {revision} was acknowledged to client {client} already: {call:?}"));
                }
            },
            Ok(Some(place)) => placed.push((call, place)),
            Ok(None) => {}
            Err(fault) => faults.push(format!("{fault}: {call:?}")),
        }
    }
    placed.extend(unanswered(&calls, log, &claimed, faults));
    placed.sort_by_key(|(call, _)| call.start);
    order(&placed, log, faults);
}

/// Finds where a call's answer is right; `None` for a write without an answer.
fn place(call: &Call, log: &Log, compacted: Revision) -> Result<Option<Place>, &'static str> {
    match &call.what {
        What::Get { key, found } => match log.first_with(key, found.as_ref(), 0) {
            Some(_) => Ok(Some(Place::WhereKeyIs)),
            None => Err("a read of what the key never was"),
        },
        What::Range { range, found } => {
            let expected = log.listed(range, range.at.unwrap_or(found.revision));
            if (&found.items, found.more) == (&expected.0, expected.1) {
                Ok(Some(Place::At(found.revision)))
            } else {
                Err("a list that is not the state at its revision")
            }
        }
        What::Revision { found } => Ok(Some(Place::At(*found))),
        What::Commit { transaction, result: TransactionResult::Committed { revision } } => {
            committed(transaction, *revision, log).map(Some)
        }
        What::Commit { transaction, result: TransactionResult::Conflict { current, revision } } => {
            let state: Vec<_> =
                transaction.compares.iter().map(|compare| log.state_of(&compare.key, *revision).cloned()).collect();
            if *current != state {
                Err("a conflict with a state that is not the one at its revision")
            } else if holds(&transaction.compares, log, *revision) {
                Err("a conflict though every precondition holds")
            } else {
                Ok(Some(Place::At(*revision)))
            }
        }
        What::Unknown { .. } => Ok(None),
        What::Refused { at, oldest } if at < oldest && *oldest <= compacted => Ok(Some(Place::Free)),
        What::Refused { .. } => Err("refused as compacted, and nobody compacted it"),
    }
}

fn committed(transaction: &Transaction, revision: Revision, log: &Log) -> Result<Place, &'static str> {
    if log.at(revision).is_some_and(|changes| did(transaction, changes, log)) {
        return Ok(Place::Write(revision));
    }
    if changes_nothing(transaction, revision, log) {
        Ok(Place::At(revision))
    } else {
        Err("an acknowledged write that the log does not have at its revision")
    }
}

fn nothing_to_do(call: &Call, at: Revision, log: &Log) -> bool {
    match &call.what {
        What::Commit { transaction, result: _ } => changes_nothing(transaction, at, log),
        What::Get { .. } | What::Range { .. } | What::Revision { .. } | What::Unknown { .. } | What::Refused { .. } => {
            false
        }
    }
}

fn changes_nothing(transaction: &Transaction, at: Revision, log: &Log) -> bool {
    let nothing_to_do = transaction.operations.iter().all(|operation| match operation {
        Operation::Put { .. } => false,
        Operation::Delete { key } => log.state_of(key, at).is_none(),
    });
    nothing_to_do && holds(&transaction.compares, log, at)
}

/// Gives the changes that nobody was told of to the writes without an answer.
fn unanswered<'a>(
    calls: &'a [Call],
    log: &Log,
    claimed: &BTreeMap<Revision, usize>,
    faults: &mut Vec<String>,
) -> Vec<(&'a Call, Place)> {
    let mut open: Vec<(&Call, &Transaction)> = calls
        .iter()
        .filter_map(|call| match &call.what {
            What::Unknown { transaction } => Some((call, transaction)),
            What::Get { .. }
            | What::Range { .. }
            | What::Revision { .. }
            | What::Commit { .. }
            | What::Refused { .. } => None,
        })
        .collect();
    let mut placed = Vec::new();
    for changes in
        log.changes.iter().filter(|changes| !changes.events.is_empty() && !claimed.contains_key(&changes.revision))
    {
        match open.iter().position(|(_, transaction)| did(transaction, changes, log)) {
            Some(position) => placed.push((open.remove(position).0, Place::Write(changes.revision))),
            None => faults.push(format!("nobody asked for {changes:?}")),
        }
    }
    placed
}

/// Whether the transaction, carried out just before `changes`, gives exactly these changes.
fn did(transaction: &Transaction, changes: &Changes, log: &Log) -> bool {
    let before = changes.revision - 1;
    let effective = transaction.operations.iter().filter(|operation| match operation {
        Operation::Put { .. } => true,
        Operation::Delete { key } => log.state_of(key, before).is_some(),
    });
    let mut effective: Vec<_> = effective.collect();
    effective.sort_by_key(|operation| operation.key());
    let same = |(operation, event): (&&Operation, &drover_store::Event)| match operation {
        Operation::Put { key, value } => {
            event.kind == EventKind::Put && event.current.key == *key && event.current.value == *value
        }
        Operation::Delete { key } => event.kind == EventKind::Delete && event.current.key == *key,
    };
    effective.len() == changes.events.len()
        && effective.iter().zip(&changes.events).all(same)
        && holds(&transaction.compares, log, before)
}

fn holds(compares: &[Compare], log: &Log, at: Revision) -> bool {
    let revision_of = |state: Option<&KeyValue>| state.map_or(0, |state| state.mod_revision);
    compares.iter().all(|compare| compare.mod_revision == revision_of(log.state_of(&compare.key, at)))
}

/// Puts every call at its earliest possible place, in the order of their starts.
fn order(placed: &[(&Call, Place)], log: &Log, faults: &mut Vec<String>) {
    let mut running = BinaryHeap::new();
    let mut floor = 0;
    for (call, place) in placed {
        while let Some(Reverse((end, position))) = running.peek() {
            if *end > call.start {
                break;
            }
            floor = floor.max(*position);
            running.pop();
        }
        let position = match place {
            Place::Write(revision) => (*revision > floor).then_some(*revision),
            Place::At(revision) => (*revision >= floor).then_some(*revision),
            Place::WhereKeyIs => match &call.what {
                What::Get { key, found } => log.first_with(key, found.as_ref(), floor),
                What::Range { .. }
                | What::Revision { .. }
                | What::Commit { .. }
                | What::Unknown { .. }
                | What::Refused { .. } => Some(floor),
            },
            Place::Free => Some(floor),
        };
        match position {
            Some(position) => running.push(Reverse((call.end, position))),
            None => faults.push(format!("stale: an earlier call had seen revision {floor}: {call:?}")),
        }
    }
}
