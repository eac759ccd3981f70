//! YAML with strict budgets: a manifest may be large, a bomb may not go off.
//!
//! JSON is read by the same parser, which refuses keys that stand twice.

use serde_json::Value;

/// Most bytes of one file: the server takes 3 MiB an object.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Deepest nesting: the server refuses objects deeper than 100 levels.
const DEPTH_MAX: usize = 110;
/// Most documents in one stream.
const DOCUMENTS_MAX: usize = 10_000;
/// Most nodes of one stream.
const NODES_MAX: usize = 2_000_000;
/// Most bytes that may be repeated by aliases, and most events they replay.
const REPLAYED_EVENTS_MAX: usize = 20_000;

/// Why a text is not a stream of documents: the place and the problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct Error {
    /// Counted from 1.
    pub(super) line: u64,
    problem: String,
}

/// Parses a stream of documents. Empty documents are left out.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, Error> {
    if text.len() > BYTES_MAX {
        return Err(Error { line: 1, problem: format!("larger than {BYTES_MAX} bytes") });
    }
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        max_documents: DOCUMENTS_MAX,
        max_nodes: NODES_MAX,
        max_events: 2 * NODES_MAX,
        max_aliases: 1_000,
        max_anchors: 1_000,
        max_merge_keys: 1_000,
        max_total_scalar_bytes: BYTES_MAX,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        // `defaultMode: 0644` is octal to every Kubernetes client.
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_EVENTS_MAX,
            max_replay_stack_depth: 16,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Error {
        line: error.location().map_or(1, |location| location.line()),
        problem: one_line(&error.to_string()),
    })
}

/// Writes an object as people read it.
pub(crate) fn to_yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! {
        indent_step: 2,
        compact_list_indent: true,
        prefer_block_scalars: true,
        no_lang_directive: true,
    };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| value.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
