//! The only place that writes to the terminal.
//!
//! Text from the cluster is data: on a terminal every control character in it is spelled out instead of obeyed, so
//! that no name, log line or status can move the cursor or colour the screen (CVE-2021-25743). Colours are ours and are
//! kept apart from the text until the moment of writing.

mod escape;
mod live;
mod table;
mod text;

use std::io::{self, IsTerminal as _, Write as _};

pub(crate) use escape::{escape, escape_line};
pub(crate) use live::{Live, wrap};
pub(crate) use table::Table;
pub(crate) use text::{Style, Text};

/// Where output goes and what may be done to it there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    colour: bool,
}

impl Output {
    /// Looks at what the standard streams are. `NO_COLOR` (no-color.org) turns colours off.
    pub(crate) fn detect() -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stdout_is_terminal,
            stderr_is_terminal: io::stderr().is_terminal(),
            colour: stdout_is_terminal && !wants_none && !dumb,
        }
    }

    /// Whether a person is looking at standard output.
    pub(crate) fn is_terminal(self) -> bool {
        self.stdout_is_terminal
    }

    /// Writes one line.
    pub(crate) fn line(self, text: impl Into<Text>) -> io::Result<()> {
        let mut rendered = text.into().render(self.stdout_is_terminal, self.colour);
        rendered.push('\n');
        self.write(&rendered)
    }

    /// Writes text of several lines as it is, control characters escaped on a terminal.
    pub(crate) fn text(self, text: &str) -> io::Result<()> {
        if self.stdout_is_terminal { self.write(&escape(text)) } else { self.write(text) }
    }

    /// Writes bytes that the user asked for unchanged, such as what a command in a container prints.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes bytes to standard error unchanged.
    pub(crate) fn error_bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stderr().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes one line to standard error: notes, warnings and errors.
    pub(crate) fn note(self, text: &str) {
        let shown = if self.stderr_is_terminal { escape(text) } else { text.to_owned() };
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{shown}");
    }

    /// Starts a region that is redrawn in place; on anything but a terminal it is never drawn.
    pub(crate) fn live(self) -> Live {
        Live::new(self)
    }

    fn write(self, rendered: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(rendered.as_bytes())?;
        out.flush()
    }

    fn render(self, text: &Text) -> String {
        text.render(self.stdout_is_terminal, self.colour)
    }
}
