//! The chain of the audit log: every line carries the hash of the one before. Pure; the server writes with [`Chain`], and
//! `droverctl audit verify` reads with [`Verifier`].
//!
//! A line is one Event of `audit.k8s.io/v1` in JSON. Its place in the chain is in the annotations, so that tools for
//! Kubernetes' audit logs read it as it is. A line that was changed, removed or put in breaks the chain at the line after
//! it; the end of the log is held by the head that the server tells (`droverctl audit verify --head`).

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Counts the lines of a log from 1.
pub const SEQUENCE: &str = "audit.drover.dev/sequence";
/// SHA-256 of the line before, without its newline, in hexadecimal; empty in the first line.
pub const PREVIOUS: &str = "audit.drover.dev/previous";
/// How many events were lost before this line because the disk did not take them in time.
pub const DROPPED: &str = "audit.drover.dev/dropped";

/// The end of a chain: what the next line is tied to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Number of the last line; 0 before the first.
    pub sequence: u64,
    /// Hash of the last line; empty before the first.
    pub head: String,
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Number of the line in what was read, from 1.
    pub line: u64,
    /// Whether a crash of the server explains it.
    pub harmless: bool,
    /// What is wrong.
    pub what: String,
}

/// Checks a log line by line, oldest first, across its files.
#[derive(Debug, Default)]
pub struct Verifier {
    chain: Option<Chain>,
    lines: u64,
    dropped: u64,
    problems: Vec<Problem>,
}

/// What a log was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Lines read.
    pub lines: u64,
    /// Events that the log itself says were lost.
    pub dropped: u64,
    /// The end of the chain, to compare with what the server says.
    pub chain: Chain,
    /// Everything wrong, in order.
    pub problems: Vec<Problem>,
}

impl Chain {
    /// Finds the end of a chain in the last lines of a log. A last line that a crash cut short counts as a line.
    pub fn resume<'a>(tail: impl Iterator<Item = &'a [u8]>) -> Self {
        tail.fold(Self::default(), |chain, line| {
            let sequence = read(line).map_or(chain.sequence + 1, |place| place.sequence);
            Self { sequence, head: hash(line) }
        })
    }

    /// Makes the next line of an event, without a newline, and moves on to it.
    pub fn append(&mut self, mut event: Map<String, Value>, dropped: u64) -> Vec<u8> {
        let mut annotations = match event.remove("annotations") {
            Some(Value::Object(annotations)) => annotations,
            Some(_) | None => Map::new(),
        };
        self.sequence += 1;
        annotations.insert(SEQUENCE.to_owned(), self.sequence.to_string().into());
        annotations.insert(PREVIOUS.to_owned(), std::mem::take(&mut self.head).into());
        if dropped > 0 {
            annotations.insert(DROPPED.to_owned(), dropped.to_string().into());
        }
        event.insert("annotations".to_owned(), annotations.into());
        let line = Value::Object(event).to_string().into_bytes();
        self.head = hash(&line);
        line
    }
}

impl Verifier {
    /// Reads the next line, without its newline.
    pub fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        let head = hash(line);
        let sequence = match read(line) {
            Some(place) => {
                self.check(&place);
                self.dropped = self.dropped.saturating_add(place.dropped);
                place.sequence
            }
            None => {
                self.problem(true, "it is no line of an audit log; a crash may have cut it short");
                self.chain.as_ref().map_or(1, |chain| chain.sequence.saturating_add(1))
            }
        };
        self.chain = Some(Chain { sequence, head });
    }

    /// Ends the check; `head` is what the server says the last line is.
    pub fn finish(mut self, head: Option<&str>) -> Verdict {
        let chain = self.chain.take().unwrap_or_default();
        if let Some(wanted) = head
            && wanted != chain.head
        {
            self.problem(false, "the log does not end with the line that the server wrote last");
        }
        Verdict { lines: self.lines, dropped: self.dropped, chain, problems: self.problems }
    }

    fn check(&mut self, place: &Place) {
        let Some(before) = &self.chain else { return };
        let (expected, found) = (before.sequence.saturating_add(1), place.sequence);
        let linked = place.previous == before.head;
        if expected != found {
            self.problem(
                false,
                &format!("its number is {found}, expected {expected}: lines are missing or were put in"),
            );
        } else if !linked {
            self.problem(false, "it does not follow from the line before: one of the two was changed");
        }
    }

    fn problem(&mut self, harmless: bool, what: &str) {
        self.problems.push(Problem { line: self.lines, harmless, what: what.to_owned() });
    }
}

impl Verdict {
    /// Whether nothing was changed, removed or put in.
    pub fn is_intact(&self) -> bool {
        self.problems.iter().all(|problem| problem.harmless)
    }
}

/// What a line says about its place.
struct Place {
    sequence: u64,
    previous: String,
    dropped: u64,
}

fn read(line: &[u8]) -> Option<Place> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let annotation = |name: &str| event["annotations"][name].as_str();
    Some(Place {
        sequence: annotation(SEQUENCE)?.parse().ok()?,
        previous: annotation(PREVIOUS)?.to_owned(),
        dropped: annotation(DROPPED).and_then(|count| count.parse().ok()).unwrap_or_default(),
    })
}

fn hash(line: &[u8]) -> String {
    format!("{:x}", Sha256::digest(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn log(texts: &[&str]) -> (Vec<Vec<u8>>, Chain) {
        let mut chain = Chain::default();
        let lines = texts.iter().map(|text| {
            let Value::Object(event) = json!({"kind": "Event", "userAgent": text}) else { unreachable!() };
            chain.append(event, 0)
        });
        (lines.collect(), chain)
    }

    fn verify(lines: &[Vec<u8>], head: Option<&str>) -> Verdict {
        let mut verifier = Verifier::default();
        lines.iter().for_each(|line| verifier.line(line));
        verifier.finish(head)
    }

    #[test]
    fn an_untouched_log_is_intact_and_may_begin_anywhere() {
        let (lines, chain) = log(&["a", "b", "c"]);
        assert_eq!(verify(&lines, Some(&chain.head)).problems, []);
        assert_eq!(verify(&lines[1..], None), Verdict { lines: 2, dropped: 0, chain, problems: vec![] });
    }

    #[test]
    fn a_change_a_removal_and_an_insertion_are_noticed() {
        let (lines, chain) = log(&["a", "b", "c", "d"]);
        let mut changed = lines.clone();
        changed[1] = String::from_utf8(changed[1].clone()).unwrap().replace("\"b\"", "\"x\"").into_bytes();
        assert_eq!(verify(&changed, None).problems[0].line, 3);
        let removed = [&lines[..1], &lines[2..]].concat();
        assert!(verify(&removed, None).problems[0].what.contains("expected 2"));
        let doubled = [&lines[..2], &lines[1..]].concat();
        assert!(!verify(&doubled, None).is_intact());
        assert!(verify(&lines[..3], None).is_intact(), "a missing end does not show in the lines");
        assert!(!verify(&lines[..3], Some(&chain.head)).is_intact(), "but in the head");
    }

    #[test]
    fn a_line_that_a_crash_cut_short_does_not_break_the_chain() {
        let (mut lines, _) = log(&["a", "b"]);
        lines[1].truncate(20);
        let mut chain = Chain::resume(lines.iter().map(Vec::as_slice));
        assert_eq!(chain.sequence, 2);
        lines.push(chain.append(Map::new(), 7));
        let verdict = verify(&lines, Some(&chain.head));
        assert!(verdict.is_intact() && verdict.problems.len() == 1, "{verdict:?}");
        assert_eq!(verdict.dropped, 7);
    }

    #[test]
    fn a_line_break_in_a_value_makes_no_line() {
        let (lines, _) = log(&["a\nb\r\u{0}\"}"]);
        assert!(!lines[0].contains(&b'\n') && !lines[0].contains(&b'\r'));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(lines: Vec<Vec<u8>>) {
            prop_assert_eq!(verify(&lines, None).lines, lines.len() as u64);
            Chain::resume(lines.iter().map(Vec::as_slice));
        }

        #[test]
        fn any_single_change_of_a_line_shows(texts in prop::collection::vec(".{0,8}", 3..6), at in 0usize..1000, bit in 0u8..8) {
            let (mut lines, chain) = log(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let place = at % lines.iter().map(Vec::len).sum::<usize>();
            let mut rest = place;
            for line in &mut lines {
                if rest < line.len() {
                    line[rest] ^= 1 << bit;
                    break;
                }
                rest -= line.len();
            }
            prop_assert!(!verify(&lines, Some(&chain.head)).is_intact());
        }
    }
}
