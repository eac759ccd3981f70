//! One step of a rolling update: grow the new set as far as the surge allows, shrink the old ones as far as
//! availability allows. Pure.
//!
//! The steps are those of Kubernetes ("Rolling Update Deployment" in its documentation); the tests compare whole
//! sequences with an independent model over a grid.

use super::limits::Limits;
use super::members::{Member, sum};

/// Grows (or shrinks) the new set; returns whether its size changed.
pub(super) fn scale_new(members: &mut [Member<'_>], new: usize, limits: &Limits) -> bool {
    let current = members[new].replicas;
    if current == limits.replicas {
        return false;
    }
    let target = if current > limits.replicas { limits.replicas } else { new_size(members, current, limits) };
    target != current && members[new].scale(target, limits)
}

/// Returns how large a set of the new template may be, given all sets there are.
pub(super) fn new_size(members: &[Member<'_>], current: i32, limits: &Limits) -> i32 {
    if !limits.rolling {
        return limits.replicas;
    }
    // Pods that a set was told to take away count for as long as they are there. (Kubernetes does not wait for them.)
    let forgetful = drover_api::mutants::active("F01-doomed-pods-make-room");
    let held = |member: &Member<'_>| if forgetful { member.replicas } else { member.replicas.max(member.actual) };
    let room = limits.total_max() - sum(members, held);
    if room <= 0 { current } else { current + room.min(limits.replicas - current).max(0) }
}

/// Shrinks the old sets; returns whether any size changed. `members` are ordered oldest first.
pub(super) fn scale_down_old(members: &mut [Member<'_>], new: usize, limits: &Limits) -> bool {
    let total = sum(members, |member| member.replicas);
    if total == members[new].replicas {
        return false;
    }
    // New pods that are not up yet count as missing already: taking old ones away for them must wait.
    let new_unavailable = members[new].replicas - members[new].dependable();
    let removable = total - limits.available_min() - new_unavailable;
    if removable <= 0 {
        return false;
    }
    let unhealthy = remove_unhealthy(members, new, removable, limits);
    let healthy = remove_healthy(members, new, limits);
    unhealthy + healthy > 0
}

/// Takes away old pods that serve nobody: they cost no availability.
fn remove_unhealthy(members: &mut [Member<'_>], new: usize, removable: i32, limits: &Limits) -> i32 {
    let mut removed = 0;
    for member in others(members, new) {
        let unhealthy = member.replicas - member.available;
        let count = unhealthy.min(removable - removed);
        if member.is_active() && count > 0 {
            member.scale(member.replicas - count, limits);
            removed += count;
        }
    }
    removed
}

/// Takes away old pods while enough others are available.
fn remove_healthy(members: &mut [Member<'_>], new: usize, limits: &Limits) -> i32 {
    let spare = sum(members, |member| member.dependable()) - limits.available_min();
    let mut removed = 0;
    for member in others(members, new) {
        let count = member.replicas.min(spare - removed);
        if count > 0 {
            member.scale(member.replicas - count, limits);
            removed += count;
        }
    }
    removed
}

fn others<'m, 'a>(members: &'m mut [Member<'a>], new: usize) -> impl Iterator<Item = &'m mut Member<'a>> {
    members.iter_mut().enumerate().filter(move |(index, _)| *index != new).map(|(_, member)| member)
}
