//! One part's link to the API server: how it behaves now, and what is to strike at which request. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::faults::{Cut, Moment};

/// A span of time that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Until<T> {
    what: T,
    end: Instant,
}

/// What a request is in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fate {
    /// The part crashes at this point of the request; away for this long.
    pub(crate) crash: Option<(Point, Duration)>,
    /// The request is carried out and its reply is lost.
    pub(crate) lose_reply: bool,
}

/// A point of a request at which its sender can crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Before it is sent.
    Before,
    /// After it has been carried out, before the reply is seen.
    AfterEffect,
    /// After the reply, before anything is done with it.
    AfterReply,
}

/// The state of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    paused: Option<Until<()>>,
    cut: Option<Until<Cut>>,
    flap: Option<Until<(Instant, Duration)>>,
    slow: Option<Until<Duration>>,
    stale: Option<Until<()>>,
    duplicates: Option<Until<()>>,
    forgetful: Option<Until<()>>,
    crash: Option<(Point, u64, Duration)>,
    lose_reply: Option<u64>,
    requests: u64,
    writes: u64,
}

impl Link {
    /// The part stands still.
    pub(crate) fn pause(&mut self, now: Instant, span: Duration) {
        self.paused = Some(Until { what: (), end: now + span });
    }

    /// The link is cut.
    pub(crate) fn cut(&mut self, cut: Cut, now: Instant, span: Duration) {
        self.cut = Some(Until { what: cut, end: now + span });
    }

    /// The link comes and goes.
    pub(crate) fn flap(&mut self, period: Duration, now: Instant, span: Duration) {
        self.flap = Some(Until { what: (now, period.max(Duration::from_millis(2))), end: now + span });
    }

    /// The link is slow.
    pub(crate) fn slow(&mut self, by: Duration, now: Instant, span: Duration) {
        self.slow = Some(Until { what: by, end: now + span });
    }

    /// Watch events are held back.
    pub(crate) fn hold_watches(&mut self, now: Instant, span: Duration) {
        self.stale = Some(Until { what: (), end: now + span });
    }

    /// Watch events arrive more than once.
    pub(crate) fn duplicate_events(&mut self, now: Instant, span: Duration) {
        self.duplicates = Some(Until { what: (), end: now + span });
    }

    /// Watches are answered with 410.
    pub(crate) fn forget_history(&mut self, now: Instant, span: Duration) {
        self.forgetful = Some(Until { what: (), end: now + span });
    }

    /// The part will crash at a request to come.
    pub(crate) fn crash_at(&mut self, moment: Moment, down: Duration) {
        let (point, ahead) = match moment {
            // Whoever crashes at once needs no trigger; the next request is close enough if one is set all the same.
            Moment::Now => (Point::Before, 0),
            Moment::BeforeRequest(n) => (Point::Before, n),
            Moment::AfterEffect(n) => (Point::AfterEffect, n),
            Moment::AfterReply(n) => (Point::AfterReply, n),
        };
        self.crash = Some((point, self.requests + ahead, down));
    }

    /// The reply to the n-th write from now will be lost.
    pub(crate) fn lose_reply(&mut self, nth: u64) {
        self.lose_reply = Some(self.writes + nth);
    }

    /// Takes all faults away.
    pub(crate) fn heal(&mut self) {
        *self = Self { requests: self.requests, writes: self.writes, ..Self::default() };
    }

    /// Counts a request and says what it is in for.
    pub(crate) fn next_request(&mut self, is_write: bool) -> Fate {
        let (request, write) = (self.requests, self.writes);
        self.requests += 1;
        self.writes += u64::from(is_write);
        let crash = self.crash.filter(|(_, at, _)| request >= *at).map(|(point, _, down)| (point, down));
        if crash.is_some() {
            self.crash = None;
        }
        let lose_reply = is_write && self.lose_reply.is_some_and(|at| write >= at);
        if lose_reply {
            self.lose_reply = None;
        }
        Fate { crash, lose_reply }
    }

    /// Returns until when nothing gets to the server; `None` when it does now.
    pub(crate) fn requests_blocked(&self, now: Instant) -> Option<Instant> {
        self.blocked(now, |cut| matches!(cut, Cut::Requests | Cut::Both))
    }

    /// Returns until when nothing comes back.
    pub(crate) fn replies_blocked(&self, now: Instant) -> Option<Instant> {
        self.blocked(now, |cut| matches!(cut, Cut::Replies | Cut::Both))
    }

    /// Returns how much longer each way takes.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        active(self.slow, now).map_or(Duration::ZERO, |slow| slow.what)
    }

    /// Returns until when watch events are held back.
    pub(crate) fn watches_held(&self, now: Instant) -> Option<Instant> {
        active(self.stale, now).map(|stale| stale.end)
    }

    /// Whether watch events arrive twice now.
    pub(crate) fn duplicates(&self, now: Instant) -> bool {
        active(self.duplicates, now).is_some()
    }

    /// Whether watches are refused with 410 now.
    pub(crate) fn forgets(&self, now: Instant) -> bool {
        active(self.forgetful, now).is_some()
    }

    /// Returns until when the part stands still.
    pub(crate) fn paused(&self, now: Instant) -> Option<Instant> {
        active(self.paused, now).map(|paused| paused.end)
    }

    fn blocked(&self, now: Instant, stops: impl Fn(Cut) -> bool) -> Option<Instant> {
        let cut = active(self.cut, now).filter(|cut| stops(cut.what)).map(|cut| cut.end);
        let flap = active(self.flap, now).and_then(|flap| {
            let (since, period) = flap.what;
            let position = Duration::from_nanos(
                u64::try_from(now.duration_since(since).as_nanos() % period.as_nanos()).unwrap_or_default(),
            );
            // Down in the first half of each period.
            (position < period / 2).then(|| (now + (period / 2 - position)).min(flap.end))
        });
        [self.paused(now), cut, flap].into_iter().flatten().max()
    }
}

fn active<T: Copy>(until: Option<Until<T>>, now: Instant) -> Option<Until<T>> {
    until.filter(|until| now < until.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_cut_stops_its_direction_until_it_ends() {
        let (mut link, now) = (Link::default(), Instant::now());
        link.cut(Cut::Replies, now, 2 * SECOND);
        assert_eq!(link.requests_blocked(now), None);
        assert_eq!(link.replies_blocked(now), Some(now + 2 * SECOND));
        assert_eq!(link.replies_blocked(now + 2 * SECOND), None);
    }

    #[test]
    fn a_flapping_link_is_down_half_of_the_time() {
        let (mut link, now) = (Link::default(), Instant::now());
        link.flap(2 * SECOND, now, 10 * SECOND);
        let down = (0..100).filter(|tick| link.requests_blocked(now + SECOND / 10 * *tick).is_some()).count();
        assert_eq!(down, 50);
        assert_eq!(link.requests_blocked(now + 10 * SECOND), None);
    }

    #[test]
    fn a_crash_strikes_once_at_the_request_it_was_set_for() {
        let mut link = Link::default();
        link.next_request(false);
        link.crash_at(Moment::AfterEffect(1), SECOND);
        assert_eq!(link.next_request(true).crash, None);
        assert_eq!(link.next_request(true).crash, Some((Point::AfterEffect, SECOND)));
        assert_eq!(link.next_request(true).crash, None);
    }

    #[test]
    fn only_the_reply_to_a_write_is_lost() {
        let mut link = Link::default();
        link.lose_reply(0);
        assert!(!link.next_request(false).lose_reply);
        assert!(link.next_request(true).lose_reply);
        assert!(!link.next_request(true).lose_reply);
    }
}
