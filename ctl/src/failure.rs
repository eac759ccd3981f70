//! What a person reads when a command fails: one line that says what, and one that says what to do.

use std::io;

use crate::cluster;

/// A failure of ours, with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    help: Option<String>,
}

impl Failure {
    /// A failure that needs no hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to do about it, unless something was said before.
    pub(crate) fn help_unless_any(mut self, help: impl Into<String>) -> Self {
        self.help.get_or_insert_with(|| help.into());
        self
    }
}

/// What to print for an error, and what to exit with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The lines for standard error; none when there is nobody to read them.
    pub(crate) lines: Vec<String>,
    /// The exit code.
    pub(crate) code: u8,
}

/// Turns an error into what is printed.
pub(crate) fn report(error: &anyhow::Error) -> Report {
    if is_broken_pipe(error) {
        return Report { lines: Vec::new(), code: 0 };
    }
    let message: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut lines = vec![format!("error: {}", message.join(": "))];
    let failure = error.downcast_ref::<Failure>();
    let ours = failure.and_then(|failure| failure.help.clone());
    let help = ours.or_else(|| error.downcast_ref::<cluster::Error>().and_then(cluster::Error::help));
    lines.extend(help.map(|help| format!("help: {help}")));
    Report { lines, code: 1 }
}

/// Whether the reader of our output has gone, as `head` does: no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_failure_is_one_line_and_a_hint() {
        let error = anyhow::Error::from(Failure::new("no kubeconfig found").help("pass --kubeconfig"));
        assert_eq!(report(&error).lines, ["error: no kubeconfig found", "help: pass --kubeconfig"]);
        assert_eq!(report(&error).code, 1);
    }

    #[test]
    fn context_comes_first() {
        let error = Err::<(), _>(Failure::new("line 3: bad")).context("web.yaml").unwrap_err();
        assert_eq!(report(&error).lines, ["error: web.yaml: line 3: bad"]);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(report(&error), Report { lines: vec![], code: 0 });
    }
}
