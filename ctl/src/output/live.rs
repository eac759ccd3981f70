//! A block of lines that is redrawn in place.

use std::io;

use super::{Output, Style, Text};

/// The lines last drawn, to be overwritten by the next ones.
#[derive(Debug)]
pub(crate) struct Live {
    output: Output,
    drawn: Vec<String>,
}

impl Live {
    pub(super) fn new(output: Output) -> Self {
        Self { output, drawn: Vec::new() }
    }

    /// Replaces what was drawn before. Does nothing when nothing changed, or when nobody looks.
    pub(crate) fn draw(&mut self, lines: &[Text]) -> io::Result<()> {
        if !self.output.is_terminal() {
            return Ok(());
        }
        let (width, height) = size();
        let first = lines.len().saturating_sub(height.saturating_sub(1).max(1));
        let shown = lines.iter().skip(first);
        let rendered: Vec<String> =
            shown.map(|line| self.output.render(&line.clone().truncate(width.saturating_sub(1)))).collect();
        if rendered == self.drawn {
            return Ok(());
        }
        let mut frame = String::new();
        if !self.drawn.is_empty() {
            frame.push_str(&format!("\u{1b}[{}A", self.drawn.len()));
        }
        for line in &rendered {
            frame.push_str(&format!("\r\u{1b}[2K{line}\n"));
        }
        // What the last frame had below the new one goes too.
        frame.push_str("\u{1b}[0J");
        self.output.write(&frame)?;
        self.drawn = rendered;
        Ok(())
    }
}

/// Breaks a sentence into lines that fit the terminal.
pub(crate) fn wrap(sentence: &str, style: Style) -> Vec<Text> {
    wrap_at(sentence, size().0.saturating_sub(1).max(20)).into_iter().map(|line| Text::styled(style, line)).collect()
}

fn wrap_at(sentence: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Columns and rows of the terminal; what a terminal had in 1978 when it will not say.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => (80, 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_broken_between_words() {
        assert_eq!(wrap_at("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap_at("averyveryverylongword x", 9), ["averyveryverylongword", "x"]);
        assert_eq!(wrap_at("", 9), [""]);
    }
}
