//! When a host that is asked counts as lost. Pure.

use std::time::{Duration, Instant};

/// Between two questions to a host that answers.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Between two questions once one has not been answered by then.
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(50);
/// After this many questions without any answer ever the host is taken to drop ICMP: it cannot be lost.
const HOPEFUL_QUESTIONS: u32 = 20;
/// Between two questions to such a host.
const ASK_HOPELESS_EVERY: Duration = Duration::from_secs(5);
/// This many questions in a row without an answer; one in five packets lost each way makes it one in 200,000.
const QUESTIONS_MIN: u32 = 12;
/// The first of them this long ago.
const SILENCE_MIN: Duration = Duration::from_millis(800);

/// What is known of one host. Counts questions, not time alone: a process that was kept from running has asked nothing
/// and concludes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hearing {
    has_answered: bool,
    asked: Option<Instant>,
    unanswered: u32,
    /// When the first of the unanswered questions was asked.
    since: Option<Instant>,
    lost: bool,
}

impl Hearing {
    /// When the next question is due.
    pub fn next_question(&self, now: Instant) -> Instant {
        let pause = match (self.has_answered, self.lost, self.unanswered) {
            (false, _, HOPEFUL_QUESTIONS..) => ASK_HOPELESS_EVERY,
            (false, ..) | (true, true, _) | (true, false, 0) => ASK_EVERY,
            (true, false, _) => ASK_AGAIN_EVERY,
        };
        self.asked.map_or(now, |asked| asked + pause)
    }

    /// A question was sent.
    pub fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// An answer came, to whichever question.
    pub fn answered(&mut self) {
        *self = Self { has_answered: true, asked: self.asked, ..Self::default() };
    }

    /// Draws the conclusion; call it after all answers that have come are in.
    pub fn conclude(&mut self, now: Instant) {
        let silence = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.lost |= self.has_answered && self.unanswered >= QUESTIONS_MIN && silence >= SILENCE_MIN;
    }

    /// Whether it answers; `None` when it never did.
    pub fn is_heard(&self) -> Option<bool> {
        self.has_answered.then_some(!self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks when due, with the loop waking every `step`; `answers` tells which questions are answered. Returns when, in
    /// milliseconds, the host was lost.
    fn lost_after(step: u64, until: u64, answers: impl Fn(u64) -> bool) -> Option<u64> {
        let start = Instant::now();
        let mut hearing = Hearing::default();
        for millis in (0..until).step_by(usize::try_from(step).expect("small")) {
            let now = start + Duration::from_millis(millis);
            hearing.conclude(now);
            if hearing.is_heard() == Some(false) {
                return Some(millis);
            }
            if hearing.next_question(now) <= now {
                hearing.asked(now);
                if answers(millis) {
                    hearing.answered();
                }
            }
        }
        None
    }

    #[test]
    fn a_host_that_stops_answering_is_lost_within_about_a_second() {
        let lost = lost_after(10, 10_000, |millis| millis < 2_000).expect("it is lost");
        assert!((2_800..=3_100).contains(&lost), "{lost}");
    }

    #[test]
    fn a_host_that_never_answered_cannot_be_lost() {
        assert_eq!(lost_after(10, 60_000, |_| false), None);
    }

    #[test]
    fn one_answer_in_eleven_questions_is_enough() {
        let heard = lost_after(10, 60_000, |millis| (millis / 50) % 11 == 0);
        assert_eq!(heard, None);
    }

    #[test]
    fn a_process_that_is_kept_from_running_loses_nobody_it_has_not_asked() {
        // Awake once in three seconds: twelve questions take it half a minute.
        let lost = lost_after(3_000, 120_000, |millis| millis < 6_000).expect("in the end it is lost");
        assert!(lost >= 6_000 + 11 * 3_000, "{lost}");
    }

    #[test]
    fn a_lost_host_that_answers_is_back_at_once() {
        let start = Instant::now();
        let mut hearing = Hearing::default();
        hearing.answered();
        for number in 0..20 {
            hearing.asked(start + Duration::from_millis(50 * number));
        }
        hearing.conclude(start + Duration::from_secs(1));
        assert_eq!(hearing.is_heard(), Some(false));
        hearing.answered();
        assert_eq!(hearing.is_heard(), Some(true));
    }
}
