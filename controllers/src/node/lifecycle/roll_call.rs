//! Whether a host that its neighbours have lost is gone. Pure.
//!
//! A neighbour's word alone is not enough: it may be the one that is cut off, and a firewall may have begun to drop what
//! it asks with. So everybody concerned is called upon to speak at once, the suspect and those that ask it. Who is silent
//! then, while one that lost it speaks and none that speaks hears it, is gone with its host. Nothing here counts time by
//! itself: a look counts only when this process came to it, so that one that was kept from running accuses nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Looks before silence means something: far more than a renewal takes, whatever else its host does.
const LOOKS_MIN: u32 = 4;
/// Looks after which it is given up: those that lost the host do not speak themselves, or others hear it.
const LOOKS_MAX: u32 = 20;
/// Before it is called for again after it was answered or given up.
const REST: Duration = Duration::from_secs(5);

/// What a node says of others, and how often it has spoken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// Counts the renewals of its Lease that this process has seen.
    pub renewals: u64,
    /// Neighbours that answer it.
    pub heard: BTreeSet<String>,
    /// Neighbours that did and do so no more.
    pub lost: BTreeSet<String>,
}

/// The calls that are out. The memory of one process: another begins anew.
#[derive(Debug, Default)]
pub struct RollCall {
    calls: BTreeMap<String, Call>,
}

#[derive(Debug)]
struct Call {
    /// How often everybody had spoken when it began.
    before: BTreeMap<String, u64>,
    looks: u32,
    looked: Instant,
    /// When it was answered or given up.
    over: Option<Instant>,
}

impl RollCall {
    /// Looks once at what the nodes say, and returns those whose hosts are gone with the nodes that witness it.
    pub fn look(&mut self, words: &BTreeMap<String, Word>, now: Instant) -> BTreeMap<String, Vec<String>> {
        let lost_by = |suspect: &String| -> Vec<&String> {
            words
                .iter()
                .filter(|(name, word)| *name != suspect && word.lost.contains(suspect))
                .map(|(name, _)| name)
                .collect()
        };
        self.calls.retain(|suspect, _| words.contains_key(suspect) && !lost_by(suspect).is_empty());
        let before = || words.iter().map(|(name, word)| (name.clone(), word.renewals)).collect();
        let begin = || Call { before: before(), looks: 0, looked: now, over: None };
        for suspect in words.keys().filter(|suspect| !lost_by(suspect).is_empty()) {
            let call = self.calls.entry(suspect.clone()).or_insert_with(begin);
            if call.over.is_some_and(|over| now.duration_since(over) >= REST) {
                *call = begin();
            }
        }
        let mut gone = BTreeMap::new();
        for (suspect, call) in self.calls.iter_mut().filter(|(_, call)| call.over.is_none()) {
            if now.duration_since(call.looked) >= LOOK_EVERY {
                call.looks += 1;
                call.looked = now;
            }
            let spoke = |name: &str| {
                let before = call.before.get(name);
                words.get(name).zip(before).is_some_and(|(word, before)| word.renewals != *before)
            };
            let is_heard = words.iter().any(|(name, word)| word.heard.contains(suspect) && spoke(name));
            let witnesses: Vec<String> = lost_by(suspect).into_iter().filter(|name| spoke(name)).cloned().collect();
            let answered = spoke(suspect) && !drover_api::mutants::active("C23-neighbours-decide-alone");
            if answered || call.looks >= LOOKS_MAX {
                call.over = Some(now);
            } else if call.looks >= LOOKS_MIN && !is_heard && !witnesses.is_empty() {
                gone.insert(suspect.clone(), witnesses);
            }
        }
        gone
    }

    /// Those who are called upon, as long as it is open what became of them.
    pub fn suspects(&self) -> impl Iterator<Item = &String> {
        self.calls.iter().filter(|(_, call)| call.over.is_none()).map(|(suspect, _)| suspect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes that ask each other, n3 of which is lost to these.
    fn words(lost_by: &[&str], renewals: [u64; 3]) -> BTreeMap<String, Word> {
        let word = |name: &str, renewals| {
            let others = ["n1", "n2", "n3"].into_iter().filter(|other| *other != name).map(str::to_owned);
            let (lost, heard) = others.partition(|other| other == "n3" && lost_by.contains(&name));
            (name.to_owned(), Word { renewals, heard, lost })
        };
        ["n1", "n2", "n3"].into_iter().zip(renewals).map(|(name, renewals)| word(name, renewals)).collect()
    }

    /// Looks every 150 ms at what `script` says at each look; returns at which look n3 was gone.
    fn gone_at(looks: u32, script: impl Fn(u32) -> BTreeMap<String, Word>) -> Option<u32> {
        let (start, mut call) = (Instant::now(), RollCall::default());
        (0..looks).find(|look| call.look(&script(*look), start + LOOK_EVERY * *look).contains_key("n3"))
    }

    #[test]
    fn a_host_that_all_have_lost_and_that_does_not_answer_is_gone_after_four_looks() {
        let script = |look: u32| words(&["n1", "n2"], [u64::from(look > 0), u64::from(look > 0), 0]);
        assert_eq!(gone_at(50, script), Some(4));
        let mut call = RollCall::default();
        let start = Instant::now();
        call.look(&script(0), start);
        assert_eq!(call.suspects().collect::<Vec<_>>(), ["n3"], "it is called upon at once");
        for look in 1..=4 {
            let gone = call.look(&script(look), start + LOOK_EVERY * look);
            assert_eq!(gone.into_iter().next().is_some_and(|(_, by)| by == ["n1", "n2"]), look == 4);
        }
    }

    #[test]
    fn a_host_whose_agent_answers_is_there_and_is_not_asked_again_at_once() {
        let script = |look: u32| words(&["n1", "n2"], [1, 1, u64::from(look > 2)].map(|one| one * u64::from(look > 0)));
        assert_eq!(gone_at(30, script), None);
        let (start, mut call) = (Instant::now(), RollCall::default());
        for look in 0..10 {
            call.look(&script(look), start + LOOK_EVERY * look);
        }
        assert_eq!(call.suspects().count(), 0);
        call.look(&script(9), start + REST * 2);
        assert_eq!(call.suspects().count(), 1, "the neighbours still do not hear it");
    }

    #[test]
    fn a_host_that_one_neighbour_hears_is_there_until_that_one_has_lost_it_too() {
        let one_hears = |look: u32| words(&["n1"], [u64::from(look > 0), u64::from(look > 0), 0]);
        assert_eq!(gone_at(50, one_hears), None);
        let late = |look: u32| {
            words(if look < 6 { &["n1"] } else { &["n1", "n2"] }, [1, 1, 0].map(|one| one * u64::from(look > 0)))
        };
        assert_eq!(gone_at(50, late), Some(6));
    }

    #[test]
    fn the_word_of_one_who_is_silent_itself_counts_neither_way() {
        assert_eq!(gone_at(50, |_| words(&["n1", "n2"], [7, 7, 7])), None, "nobody has spoken since");
        let dead_voucher = |look: u32| words(&["n1"], [u64::from(look > 0), 0, 0]);
        assert_eq!(gone_at(50, dead_voucher), Some(4), "n2 heard it, but that was before");
    }

    #[test]
    fn a_process_that_was_kept_from_running_accuses_nobody() {
        let (start, mut call) = (Instant::now(), RollCall::default());
        let now = words(&["n1", "n2"], [1, 1, 0]);
        call.look(&words(&["n1", "n2"], [0, 0, 0]), start);
        assert!(call.look(&now, start + Duration::from_secs(60)).is_empty(), "one look, a minute late");
    }

    #[test]
    fn two_that_do_not_hear_each_other_but_both_speak_are_both_there() {
        let (start, mut call) = (Instant::now(), RollCall::default());
        for look in 0..50 {
            let word = |lost: &str| Word {
                renewals: u64::from(look > 0),
                heard: BTreeSet::new(),
                lost: BTreeSet::from([lost.to_owned()]),
            };
            let words = BTreeMap::from([("a".to_owned(), word("b")), ("b".to_owned(), word("a"))]);
            assert!(call.look(&words, start + LOOK_EVERY * look).is_empty());
        }
    }
}
