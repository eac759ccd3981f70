//! The layout of a description: names on the left, values in one column, indented parts below a heading.

use serde_json::Value;

use crate::output::{Style, Table, Text};

/// Where values start.
const COLUMN: usize = 18;
/// Text of a value that is shown before it is cut.
const VALUE_MAX: usize = 400;

/// Lines in the making.
#[derive(Debug, Default)]
pub(super) struct Page {
    lines: Vec<Text>,
}

impl Page {
    /// An empty page.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// `Name:   value`; nothing for an empty value.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.indented(0, name, value);
    }

    /// As [`Self::field`], further in.
    pub(super) fn indented(&mut self, depth: usize, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let value: String = value.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(VALUE_MAX).collect();
        let width = COLUMN.saturating_sub(2 * depth);
        let label = format!("{}{:<width$}", "  ".repeat(depth), format!("{name}:"));
        let gap = if name.len() + 1 >= width { " " } else { "" };
        self.lines.push(Text::styled(Style::Dim, format!("{label}{gap}")).plain(value));
    }

    /// A line with what stands below it.
    pub(super) fn heading(&mut self, name: &str) {
        self.lines.push(Text::styled(Style::Bold, format!("{name}:")));
    }

    /// A line as it is.
    pub(super) fn line(&mut self, line: Text) {
        self.lines.push(line);
    }

    /// Rows of cells, further in.
    pub(super) fn table(&mut self, table: &Table) {
        for line in table.lines() {
            self.lines.push(Text::from(format!("  {line}")));
        }
    }

    /// A map, a pair a line: the first beside the name.
    pub(super) fn map(&mut self, name: &str, map: Option<&Value>) {
        let pairs = map.and_then(Value::as_object).into_iter().flatten();
        let mut name = name;
        for (key, value) in pairs {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let label = if name.is_empty() { String::new() } else { format!("{name}:") };
            let pair: String = format!("{key}={value}").chars().take(VALUE_MAX).collect();
            self.lines.push(Text::styled(Style::Dim, format!("{label:<COLUMN$}")).plain(pair.replace('\n', " ")));
            name = "";
        }
    }

    /// The lines.
    pub(super) fn finish(self) -> Vec<Text> {
        self.lines
    }
}
