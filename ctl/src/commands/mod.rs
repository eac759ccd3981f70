//! The commands, one file each: arguments, what is asked of the API, what is decided, what is printed.

pub(crate) mod annotations;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod duration;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod info;
pub(crate) mod kubeconfig;
pub(crate) mod lb;
pub(crate) mod logs;
pub(crate) mod metadata;
pub(crate) mod node;
pub(crate) mod pods;
pub(crate) mod restore;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod sealing;
pub(crate) mod set;
pub(crate) mod taint;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod wait;
pub(crate) mod why;

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
