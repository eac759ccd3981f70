//! A line of text in which each part knows its colour.

use super::escape_line;

/// How a part of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    /// As the terminal shows text.
    #[default]
    Plain,
    /// Bold.
    Bold,
    /// Less visible than the rest.
    Dim,
    /// Failed, removed.
    Red,
    /// Done, added.
    Green,
    /// Waiting, attention.
    Yellow,
    /// Names, hunks.
    Cyan,
    /// One more colour for telling sources apart.
    Blue,
    /// One more colour for telling sources apart.
    Magenta,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Blue => "34",
            Style::Magenta => "35",
            Style::Cyan => "36",
        }
    }
}

/// One line: parts of data with the style to show each in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text {
    parts: Vec<(Style, String)>,
}

impl Text {
    /// An empty line.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A line of one style.
    pub(crate) fn styled(style: Style, text: impl Into<String>) -> Self {
        Self::new().with(style, text)
    }

    /// Appends a part.
    pub(crate) fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.parts.push((style, text.into()));
        self
    }

    /// Appends a part without a style.
    pub(crate) fn plain(self, text: impl Into<String>) -> Self {
        self.with(Style::Plain, text)
    }

    /// The line without styles.
    #[cfg(test)]
    pub(crate) fn bare(&self) -> String {
        self.parts.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Cuts the line after so many characters.
    pub(crate) fn truncate(mut self, width: usize) -> Self {
        let mut left = width;
        for (_, text) in &mut self.parts {
            let count = text.chars().count();
            if count > left {
                *text = text.chars().take(left).collect();
            }
            left = left.saturating_sub(count);
        }
        self
    }

    pub(super) fn render(&self, escape: bool, colour: bool) -> String {
        let mut line = String::new();
        for (style, text) in &self.parts {
            let shown = if escape { escape_line(text) } else { text.clone() };
            if colour && *style != Style::Plain && !shown.is_empty() {
                line.push_str(&format!("\u{1b}[{}m{shown}\u{1b}[0m", style.code()));
            } else {
                line.push_str(&shown);
            }
        }
        line
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new().plain(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new().plain(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_ours_and_those_in_the_data_are_escaped() {
        let line = Text::new().with(Style::Red, "bad").plain(" \u{1b}[32mname");
        assert_eq!(line.render(true, true), "\u{1b}[31mbad\u{1b}[0m ^[[32mname");
        assert_eq!(line.render(true, false), "bad ^[[32mname");
    }

    #[test]
    fn a_cut_line_keeps_its_first_characters() {
        assert_eq!(Text::from("abc").with(Style::Red, "def").plain("ghi").truncate(5).bare(), "abcde");
    }
}
