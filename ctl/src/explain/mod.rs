//! Why an object is not where it should be: pure functions from what the API shows to a sentence.
//!
//! `apply`, `why` and `describe` all say the same thing because they ask here.

mod deletion;
mod events;
mod pod;
mod workload;

pub(crate) use deletion::deletion;
pub(crate) use events::{newest, time};
pub(crate) use pod::{pod, step};
pub(crate) use workload::workload;

/// What keeps an object from being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// A sentence fragment: `container "web" cannot pull image "x:1": not found`.
    pub(crate) what: String,
    /// What the user can do about it.
    pub(crate) hint: Option<String>,
    /// Whether waiting alone will not help.
    pub(crate) is_problem: bool,
}

impl Reason {
    /// Something that passes by itself.
    fn waiting(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, is_problem: false }
    }

    /// Something that does not.
    fn problem(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, is_problem: true }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
