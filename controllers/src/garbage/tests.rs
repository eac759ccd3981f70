//! Who goes and who stays, as tables, and against a model over random graphs.

use kube::api::ObjectMeta;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, Dependent, OwnerState, leads_to, plan};
use crate::runtime::ObjectKey;

fn object(owners: usize, extra: &Value) -> ObjectMeta {
    let owner =
        |number| json!({"apiVersion": "v1", "kind": "X", "name": format!("o{number}"), "uid": format!("u{number}")});
    let owners: Vec<Value> = (0..owners).map(owner).collect();
    let mut metadata = json!({"name": "child", "namespace": "a", "uid": "c", "ownerReferences": owners});
    json_patch::merge(&mut metadata, extra);
    serde_json::from_value(metadata).unwrap()
}

fn dependent(blocks: bool) -> Dependent {
    Dependent { kind: 3, key: ObjectKey::new("a", "grandchild"), blocks }
}

fn check(metadata: &ObjectMeta, states: &[OwnerState], dependents: &[Dependent]) -> Vec<String> {
    plan(metadata, states, dependents).iter().map(ToString::to_string).collect()
}

use OwnerState::{Gone, Present, Unknown, WaitingForDependents};

#[test]
fn an_object_goes_when_its_last_owner_is_gone() {
    assert_eq!(check(&object(1, &json!({})), &[Gone], &[]), ["delete in policy Background"]);
    assert_eq!(check(&object(2, &json!({})), &[Gone, Present], &[]), ["keep 1 owners"]);
    assert_eq!(check(&object(1, &json!({})), &[Present], &[]), Vec::<String>::new());
    assert_eq!(check(&object(0, &json!({})), &[], &[]), Vec::<String>::new());
}

#[test]
fn an_owner_that_is_not_understood_keeps_what_it_owns() {
    assert_eq!(check(&object(1, &json!({})), &[Unknown], &[]), Vec::<String>::new());
    assert_eq!(check(&object(2, &json!({})), &[Gone, Unknown], &[]), ["keep 1 owners"]);
}

#[test]
fn an_owner_that_waits_takes_its_dependents_along_deepest_first() {
    assert_eq!(check(&object(1, &json!({})), &[WaitingForDependents], &[]), ["delete in policy Background"]);
    assert_eq!(
        check(&object(1, &json!({})), &[WaitingForDependents], &[dependent(true)]),
        ["delete in policy Foreground"]
    );
}

#[test]
fn a_foreground_deletion_ends_when_nothing_blocks_it() {
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion", "other"]});
    assert_eq!(check(&object(0, &going), &[], &[dependent(true)]), Vec::<String>::new());
    assert_eq!(check(&object(0, &going), &[], &[dependent(false)]), ["remove finalizer foregroundDeletion"]);
}

#[test]
fn an_orphaning_deletion_lets_go_of_everything_first() {
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]});
    assert_eq!(check(&object(0, &going), &[], &[dependent(true)]), ["release a/grandchild", "remove finalizer orphan"]);
}

#[test]
fn a_uid_alone_makes_no_dependent() {
    let metadata: ObjectMeta = serde_json::from_value(json!({"namespace": "b", "name": "c", "ownerReferences": [
        {"apiVersion": "v1", "kind": "X", "name": "o", "uid": "u"}]}))
    .unwrap();
    let owner = (3, ObjectKey::new("a", "o"));
    // Where the reference leads to, seen from the namespace of the object that holds it.
    let leads = |kind: usize, namespace: &str| {
        leads_to(&metadata, "u", &owner, |reference| Some((kind, ObjectKey::new(namespace, reference.name.clone()))))
    };
    assert!(leads(3, "a"));
    assert!(!leads(3, "b"), "another namespace");
    assert!(!leads(4, "a"), "another kind");
    assert!(!leads_to(&metadata, "other", &owner, |_| Some(owner.clone())), "another uid");
}

/// Plays the collector over a graph until nothing changes; `edges` are (child, owner).
fn collect(count: usize, edges: &[(usize, usize)], deleted: &[usize]) -> Vec<usize> {
    let mut owners: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (child, owner) in edges {
        if child != owner && !owners[*child].contains(owner) {
            owners[*child].push(*owner);
        }
    }
    let mut living: Vec<bool> = (0..count).map(|number| !deleted.contains(&number)).collect();
    loop {
        let mut changed = false;
        for number in 0..count {
            if !living[number] {
                continue;
            }
            let states: Vec<OwnerState> =
                owners[number].iter().map(|owner| if living[*owner] { Present } else { Gone }).collect();
            for action in plan(&object(states.len(), &json!({})), &states, &[]) {
                changed = true;
                match action {
                    Action::Delete { .. } => living[number] = false,
                    Action::KeepOwners { .. } => {
                        let kept = living.clone();
                        owners[number].retain(|owner| kept[*owner]);
                    }
                    other => panic!("{other}"),
                }
            }
        }
        if !changed {
            return (0..count).filter(|number| living[*number]).collect();
        }
    }
}

proptest! {
    #[test]
    fn over_random_graphs_exactly_those_without_a_living_owner_go(
        edges in proptest::collection::vec((0usize..12, 0usize..12), 0..30), deleted in proptest::collection::vec(0usize..12, 0..4),
    ) {
        let living = collect(12, &edges, &deleted);
        // The model: deletion spreads to whoever had owners and has none left.
        let owners_of = |child: usize| edges.iter().filter(move |(c, o)| *c == child && o != c).map(|(_, o)| *o);
        let mut gone: Vec<usize> = deleted.clone();
        loop {
            let next = (0..12).find(|n| !gone.contains(n) && owners_of(*n).next().is_some() && owners_of(*n).all(|o| gone.contains(&o)));
            match next { Some(n) => gone.push(n), None => break }
        }
        let expected: Vec<usize> = (0..12).filter(|n| !gone.contains(n)).collect();
        prop_assert_eq!(living, expected);
    }
}
