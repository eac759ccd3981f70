//! Our terminal while a command in a container has it.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Passes every key on as it is typed; puts the terminal back when dropped.
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches the terminal of standard input.
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone already.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows of the terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    tcgetwinsize(io::stdin()).ok().map(|size| (size.ws_col, size.ws_row))
}
