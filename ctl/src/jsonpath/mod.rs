//! JSONPath templates as `kubectl -o jsonpath` takes them: fields, `[n]`, `[a:b]`, `[*]`, `..`, filters, `range` and
//! `end`, and quoted text.
//!
//! Differs from RFC 9535 where Kubernetes does: a template holds text and several paths, and a missing field prints
//! nothing.

mod eval;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("jsonpath: {0}")]
pub(crate) struct Error(String);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    /// Repeats its nodes for each value of the path.
    Range(Path, Vec<Node>),
}

type Path = Vec<Step>;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// Starts again at the whole document.
    Root,
    Field(String),
    Wildcard,
    /// All values below, at any depth.
    Descend,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: usize,
    },
    Union(Vec<Step>),
    Filter(Box<Filter>),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    /// Without one, the filter asks whether the left side exists.
    test: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    /// Parses a template. `.spec.replicas` and `spec.replicas` mean `{.spec.replicas}`.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrapped = if text.contains('{') {
            text.to_owned()
        } else if text.starts_with(['.', '[', '$']) {
            format!("{{{text}}}")
        } else {
            format!("{{.{text}}}")
        };
        parse::template(&wrapped).map(|nodes| Self { nodes })
    }

    /// Prints the template for a document.
    pub(crate) fn render(&self, document: &Value) -> String {
        let mut printed = String::new();
        eval::print(&self.nodes, document, document, &mut printed);
        printed
    }
}
