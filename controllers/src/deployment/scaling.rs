//! Scaling a Deployment between or during rollouts: every active set keeps its share. Pure.

use std::cmp::Reverse;

use super::limits::Limits;
use super::members::{Member, sum};
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, noted};

/// Whether the Deployment was resized since its sets were last scaled.
pub(super) fn is_resized(members: &[Member<'_>], limits: &Limits) -> bool {
    members
        .iter()
        .filter(|member| member.is_active())
        .any(|member| noted(&member.annotations, DESIRED_REPLICAS).is_some_and(|noted| noted != limits.replicas))
}

/// Brings the sets to the Deployment's size without moving the rollout on. `pods_before` is the Deployment's own last
/// count of pods, for sets that carry no note.
pub(super) fn scale(members: &mut [Member<'_>], new: Option<usize>, limits: &Limits, pods_before: i32) {
    let active: Vec<usize> = (0..members.len()).filter(|index| members[*index].is_active()).collect();
    let only = match active.as_slice() {
        [] => new.or_else(|| members.len().checked_sub(1)),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(only) = only {
        let noted = noted(&members[only].annotations, DESIRED_REPLICAS);
        if members[only].replicas != limits.replicas || noted.is_some_and(|noted| noted != limits.replicas) {
            members[only].scale(limits.replicas, limits);
        }
        return;
    }
    if new.is_some_and(|new| is_saturated(&members[new], limits)) {
        for index in active.into_iter().filter(|index| Some(*index) != new) {
            members[index].scale(0, limits);
        }
        return;
    }
    if limits.rolling {
        scale_in_proportion(members, active, limits, pods_before);
    }
}

fn is_saturated(member: &Member<'_>, limits: &Limits) -> bool {
    let noted = noted(&member.annotations, DESIRED_REPLICAS);
    member.replicas == limits.replicas && noted == Some(limits.replicas) && member.available == limits.replicas
}

fn scale_in_proportion(members: &mut [Member<'_>], mut active: Vec<usize>, limits: &Limits, pods_before: i32) {
    let allowed = if limits.replicas > 0 { limits.total_max() } else { 0 };
    let to_add = allowed - sum(members, |member| member.replicas);
    // The larger first; of equals the newer first when growing and the older first when shrinking, so that what is
    // left over by rounding goes where it hurts least.
    active.sort_by(|one, other| {
        let (one, other) = (&members[*one], &members[*other]);
        let by_size = Reverse(one.replicas).cmp(&Reverse(other.replicas));
        let by_age = (one.created, &one.name).cmp(&(other.created, &other.name));
        by_size.then(if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for index in &active {
        let share = share(&members[*index], limits, to_add - added, to_add, pods_before);
        added += share;
        sizes.push(members[*index].replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (index, size) in active.into_iter().zip(sizes) {
        members[index].scale(size, limits);
    }
}

/// Returns the part of a resize that falls to one set, never more than what is left to hand out.
fn share(member: &Member<'_>, limits: &Limits, left: i32, to_add: i32, pods_before: i32) -> i32 {
    if to_add == 0 || left == 0 {
        return 0;
    }
    let fraction = fraction(member, limits, pods_before);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(member: &Member<'_>, limits: &Limits, pods_before: i32) -> i32 {
    if limits.replicas == 0 {
        return -member.replicas;
    }
    let noted = noted(&member.annotations, MAX_REPLICAS).filter(|noted| *noted != 0);
    let before = noted.unwrap_or(pods_before);
    if before <= 0 {
        return 0;
    }
    let (size, total, before) = (i64::from(member.replicas), i64::from(limits.total_max()), i64::from(before));
    // Rounds half up; all three are positive.
    let scaled = (2 * size * total + before) / (2 * before);
    i32::try_from(scaled - size).unwrap_or(i32::MAX)
}
