//! Seeds that `make test` plays: those that once found a bug, a few fixed ones, and fresh ones every time.

use drover_sim::{Depth, Outcome, Schedule, play};

/// Seeds that found a bug, with the bug; CHANGELOG.md says more.
const FOUND: [(u64, &str); 13] = [
    (
        1,
        "a retry of a failing volume forgot the failure before it: no back-off, and two status writes every two seconds",
    ),
    (2, "the address of an earlier sandbox stayed in status.podIPs after a reboot"),
    (0x1398, "the oracle of a quiet minute took a container that is up between two crashes for a settled one"),
    (0x13c8, "a node whose engine is slow after a reboot said that it has no capacity"),
    (
        0x4e80,
        "a ReplicaSet reported its pods without one whose create had lost its reply, and the roll went over its surge",
    ),
    (0x4f21, "a Deployment went over its surge on a view older than what it had met in a conflict"),
    (0x5098, "the judge of convergence took what a container that fails again and again changes for what stands still"),
    (0xeef0, "a container whose creation was not answered stayed when its pod was deleted"),
    (0xf0de, "the judge of what is made missed a size that a ReplicaSet had between two looks"),
    (0x4982e, "a pod that was made and deleted while the watch was broken was never replaced: no event told of it"),
    (0x4a5d2, "a pod whose pull was aborted by its deletion stayed: the end of the pull was taken in and dropped"),
    (0x7c98, "a pod whose object could not be deleted, for the API was away, was tried again minutes after its return"),
    (0x1421, "a clock that was set ahead and back held a pod's next try up by as much"),
];

fn assert_clean(seed: u64, why: &str) -> Outcome {
    let schedule = Schedule::of_seed(seed);
    let outcome = play(&schedule, Depth::Core);
    let broken = outcome.violations.join("\n  ");
    assert!(
        outcome.violations.is_empty(),
        "seed {seed:#x} ({why}), replay with: make sim SEED={seed:#x}\n  {broken}\n{schedule}"
    );
    outcome
}

#[test]
fn seeds_that_found_a_bug_stay_clean() {
    for (seed, bug) in FOUND {
        assert_clean(seed, bug);
    }
}

#[test]
fn fresh_seeds_are_clean() {
    // The name of a temporary folder is as random as the machine can make it.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = folder.path().to_string_lossy().into_owned();
    let first = name.bytes().fold(0_u64, |hash, byte| hash.rotate_left(7) ^ u64::from(byte).wrapping_mul(0x9e37_79b9));
    for seed in first..first + 4 {
        assert_clean(seed, "fresh");
    }
}

#[test]
fn a_seed_replays_to_the_letter() {
    replay(Depth::Core);
}

#[test]
fn a_seed_of_the_whole_stack_is_clean_and_replays_to_the_letter() {
    replay(Depth::Full);
}

fn replay(depth: Depth) {
    let schedule = Schedule::of_seed(5);
    let (first, second) = (play(&schedule, depth), play(&schedule, depth));
    assert_eq!(first, second, "two runs of seed 5 differ");
    assert!(first.violations.is_empty(), "{:?}", first.violations);
    assert!(first.tally.total() >= 10 && first.writes > 100, "nothing much happened: {first:?}");
}
