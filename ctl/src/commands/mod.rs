//! The commands, one file each: arguments, what is asked of the API, what is decided, what is printed.

pub(crate) mod annotations;
pub(crate) mod apply;
pub(crate) mod delete;
pub(crate) mod duration;
pub(crate) mod get;
pub(crate) mod logs;
pub(crate) mod pods;
pub(crate) mod rollout;
pub(crate) mod scale;

/// `--dry-run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum DryRun {
    /// Do it.
    #[default]
    None,
    /// Let the server check everything and store nothing.
    Server,
}

impl DryRun {
    /// The request parameter.
    pub(crate) fn parameter(self) -> Option<&'static str> {
        match self {
            DryRun::None => None,
            DryRun::Server => Some("All"),
        }
    }

    /// What is added to messages.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Server => " (server dry run)",
        }
    }
}
