//! The server's Table as rows of text.

use drover_api::object;
use serde_json::Value;

use crate::output::Table;

/// Which rows and columns of a Table are shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Columns of lower priority too.
    pub(super) wide: bool,
    /// A row of headings first.
    pub(super) headers: bool,
    /// A last column of labels.
    pub(super) labels: bool,
    /// A first column of namespaces.
    pub(super) namespace: bool,
    /// Put before each name, with a slash: `pod/web`.
    pub(super) prefix: Option<String>,
}

impl Rows {
    /// Appends the rows of an answer; the headings too when it is the first one.
    pub(super) fn add(&self, answer: &Value, first: bool, table: &mut Table) {
        let columns = items(&answer["columnDefinitions"]);
        let shown: Vec<usize> = (0..columns.len())
            .filter(|&index| self.wide || columns[index]["priority"].as_i64().unwrap_or(0) == 0)
            .collect();
        let rows = items(&answer["rows"]);
        if first && self.headers && !rows.is_empty() {
            let names = shown.iter().map(|&index| columns[index]["name"].as_str().unwrap_or_default().to_uppercase());
            let namespace = self.namespace.then(|| "NAMESPACE".to_owned());
            let labels = self.labels.then(|| "LABELS".to_owned());
            table.row(namespace.into_iter().chain(names).chain(labels));
        }
        for row in rows {
            let cells = shown.iter().map(|&index| self.cell(&columns[index], &row["cells"][index]));
            let namespace = self.namespace.then(|| object::namespace(&row["object"]).to_owned());
            let labels = self.labels.then(|| labels_of(&row["object"]));
            table.row(namespace.into_iter().chain(cells).chain(labels));
        }
    }

    fn cell(&self, column: &Value, cell: &Value) -> String {
        let text = match cell {
            Value::String(text) => text.clone(),
            Value::Null => "<none>".to_owned(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => cell.to_string(),
        };
        // A cell of several lines would break the table: its first line says enough.
        let text = match text.split_once('\n') {
            Some((line, _)) => format!("{line}..."),
            None => text,
        };
        match &self.prefix {
            Some(prefix) if column["format"] == "name" => format!("{prefix}/{text}"),
            Some(_) | None => text,
        }
    }
}

fn labels_of(row: &Value) -> String {
    let pairs = object::labels(row).into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(rows: &Rows, expected: &Expect) {
        let answer = json!({
            "columnDefinitions": [
                {"name": "Name", "format": "name", "priority": 0},
                {"name": "Ready", "format": "", "priority": 0},
                {"name": "Node", "format": "", "priority": 1},
            ],
            "rows": [
                {"cells": ["web-1", "1/1", "n1"], "object": {"metadata": {"namespace": "shop", "labels": {"app": "web", "x": "y"}}}},
                {"cells": ["a-longer-name", 0, null], "object": {"metadata": {"namespace": "default"}}},
            ],
        });
        let mut table = Table::new();
        rows.add(&answer, true, &mut table);
        expected.assert_eq(&(table.lines().join("\n") + "\n"));
    }

    #[test]
    fn narrow_wide_and_decorated_tables() {
        check(
            &Rows { headers: true, ..Rows::default() },
            &expect![[r"
            NAME            READY
            web-1           1/1
            a-longer-name   0
        "]],
        );
        check(
            &Rows { headers: true, wide: true, namespace: true, labels: true, ..Rows::default() },
            &expect![[r"
            NAMESPACE   NAME            READY   NODE     LABELS
            shop        web-1           1/1     n1       app=web,x=y
            default     a-longer-name   0       <none>   <none>
        "]],
        );
        check(
            &Rows { prefix: Some("pod".to_owned()), ..Rows::default() },
            &expect![[r"
            pod/web-1           1/1
            pod/a-longer-name   0
        "]],
        );
    }
}
