//! An independent model of Kubernetes' rolling update, in plain numbers and straight lines: the oracle of the tests.
//!
//! Written from the behaviour of the Deployment controller of Kubernetes 1.33, one size per set and nothing else. It
//! shares no code with the planner.

/// One ReplicaSet: pods wanted, pods available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    pub wanted: i64,
    pub available: i64,
}

/// A rollout: old sets from the oldest on, and the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    pub replicas: i64,
    pub surge: i64,
    pub unavailable: i64,
    pub old: Vec<Set>,
    pub new: Option<Set>,
}

/// Resolves a bound given as in a manifest: a number, or a percentage.
pub(super) fn bound(text: &str, replicas: i64, up: bool) -> i64 {
    match text.strip_suffix('%') {
        None => text.parse().unwrap(),
        Some(percent) => {
            let exact = percent.parse::<f64>().unwrap() * replicas as f64 / 100.0;
            (if up { exact.ceil() } else { exact.floor() }) as i64
        }
    }
}

impl Model {
    pub(super) fn start(replicas: i64, surge: &str, unavailable: &str, old: Vec<Set>) -> Self {
        let surge = bound(surge, replicas, true);
        let mut unavailable = bound(unavailable, replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        if unavailable > replicas {
            unavailable = replicas;
        }
        Self { replicas, surge, unavailable, old, new: None }
    }

    /// One pass of the controller.
    pub(super) fn step(&mut self) {
        let old_wanted: i64 = self.old.iter().map(|set| set.wanted).sum();
        let limit = self.replicas + self.surge;
        // The new set: made at the size that fits, or grown to it.
        let size = self.new.map_or(0, |set| set.wanted);
        let total = old_wanted + size;
        let mut target = size;
        if size > self.replicas {
            target = self.replicas;
        } else if size < self.replicas && total < limit {
            target = size + std::cmp::min(limit - total, self.replicas - size);
        }
        let existed = self.new.is_some();
        let new = self.new.get_or_insert(Set { wanted: target, available: 0 });
        if existed && target != size {
            new.wanted = target;
            return;
        }
        // The old sets.
        if old_wanted == 0 {
            return;
        }
        let new = *new;
        let floor = self.replicas - self.unavailable;
        let most = old_wanted + new.wanted - floor - (new.wanted - new.available);
        if most <= 0 {
            return;
        }
        let mut cleaned = 0;
        for set in &mut self.old {
            if cleaned >= most {
                break;
            }
            if set.wanted > set.available {
                let count = std::cmp::min(most - cleaned, set.wanted - set.available);
                set.wanted -= count;
                cleaned += count;
            }
        }
        let available: i64 = self.old.iter().map(|set| set.available).sum::<i64>() + new.available;
        let mut budget = available - floor;
        for set in &mut self.old {
            if budget <= 0 {
                break;
            }
            let count = std::cmp::min(set.wanted, budget);
            set.wanted -= count;
            budget -= count;
        }
    }

    pub(super) fn sizes(&self) -> Vec<i64> {
        self.old.iter().map(|set| set.wanted).chain(self.new.map(|set| set.wanted)).collect()
    }
}
