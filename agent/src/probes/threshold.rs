//! From single probe outcomes to verdicts: pure.

use k8s_openapi::api::core::v1::Probe;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Holds the others back until it has passed once.
    Startup,
    /// Says whether the pod takes traffic.
    Readiness,
    /// Says whether the container must be restarted.
    Liveness,
}

impl ProbeKind {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// Counts outcomes in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    success: i32,
    failure: i32,
    last: Option<bool>,
    in_row: i32,
}

impl Threshold {
    /// Takes the thresholds of a probe, with Kubernetes' defaults of 1 and 3.
    pub fn new(probe: &Probe) -> Self {
        Self {
            success: probe.success_threshold.unwrap_or(1).max(1),
            failure: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            in_row: 0,
        }
    }

    /// Takes one outcome in; `Some` when enough agree.
    pub fn note(&mut self, passed: bool) -> Option<bool> {
        if self.last == Some(passed) {
            self.in_row = self.in_row.saturating_add(1);
        } else {
            self.last = Some(passed);
            self.in_row = 1;
        }
        let hasty = drover_api::mutants::active("E05-one-probe-decides");
        let needed = if hasty {
            1
        } else if passed {
            self.success
        } else {
            self.failure
        };
        (self.in_row >= needed).then_some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_its_threshold_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Default::default() };
        let mut threshold = Threshold::new(&probe);
        let outcomes = [true, true, false, false, true, false, false, false, true, true];
        let verdicts: Vec<_> = outcomes.into_iter().map(|passed| threshold.note(passed)).collect();
        let expected = [None, Some(true), None, None, None, None, None, Some(false), None, Some(true)];
        assert_eq!(verdicts, expected);
    }
}
