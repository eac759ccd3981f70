//! Columns padded by three spaces, as `kubectl get` aligns them.

/// Rows of cells; the first row usually holds the headings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Widths that earlier tables of the same stream had, so that a watch keeps its columns.
    widths: Vec<usize>,
}

/// Spaces between two columns.
const GAP: usize = 3;

impl Table {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An empty table whose columns are at least as wide as those of another.
    pub(crate) fn like(other: &Table) -> Self {
        Self { rows: Vec::new(), widths: other.column_widths() }
    }

    /// Appends a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the lines, without trailing blanks in the last column.
    pub(crate) fn lines(&self) -> Vec<String> {
        let widths = self.column_widths();
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }

    fn column_widths(&self) -> Vec<usize> {
        let mut widths = self.widths.clone();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (index, cell) in row.iter().enumerate() {
        line.push_str(cell);
        if index + 1 < row.len() {
            let width = widths.get(index).copied().unwrap_or(0);
            let padding = width.saturating_sub(cell.chars().count()) + GAP;
            line.extend(std::iter::repeat_n(' ', padding));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_three_spaces() {
        let mut table = Table::new();
        table.row(["NAME", "READY"]);
        table.row(["a-long-name", "1/1"]);
        assert_eq!(table.lines(), ["NAME          READY", "a-long-name   1/1"]);
        let mut next = Table::like(&table);
        next.row(["b", "0/1"]);
        assert_eq!(next.lines(), ["b             0/1"]);
    }
}
