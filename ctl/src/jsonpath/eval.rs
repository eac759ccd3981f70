//! Walking a document along a path.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Comparison, Filter, Node, Operand, Path, Step};

/// Values that one path may give: a bound for `..` over large lists.
const RESULTS_MAX: usize = 1_000_000;

pub(super) fn print(nodes: &[Node], root: &Value, current: &Value, printed: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => printed.push_str(text),
            Node::Path(path) => {
                let shown: Vec<String> = find(path, root, current).into_iter().map(spell).collect();
                printed.push_str(&shown.join(" "));
            }
            Node::Range(path, body) => {
                for value in find(path, root, current) {
                    print(body, root, value, printed);
                }
            }
        }
    }
}

fn spell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn find<'a>(path: &Path, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![current];
    for step in path {
        let mut next = Vec::new();
        for value in found {
            follow(step, root, value, &mut next);
        }
        next.truncate(RESULTS_MAX);
        found = next;
    }
    found
}

fn follow<'a>(step: &Step, root: &'a Value, value: &'a Value, found: &mut Vec<&'a Value>) {
    match step {
        Step::Root => found.push(root),
        Step::Field(name) => found.extend(value.get(name)),
        Step::Wildcard => found.extend(children(value)),
        Step::Descend => descend(value, found),
        Step::Index(index) => found.extend(value.as_array().and_then(|items| items.get(place(*index, items.len())?))),
        Step::Slice { start, end, step } => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let from = bound(start.unwrap_or(0), items.len());
            let to = bound(end.unwrap_or(i64::MAX), items.len());
            found.extend(items.iter().take(to).skip(from).step_by(*step));
        }
        Step::Union(steps) => steps.iter().for_each(|step| follow(step, root, value, found)),
        Step::Filter(filter) => found.extend(children(value).filter(|child| holds(filter, root, child))),
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Box::new(std::iter::empty()),
    }
}

fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(value);
    children(value).for_each(|child| descend(child, found));
}

/// The place of an index that may count from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if index < 0 { index + len } else { index }).ok()
}

fn bound(index: i64, len: usize) -> usize {
    place(index, len).map_or(0, |place| place.min(len))
}

fn holds(filter: &Filter, root: &Value, current: &Value) -> bool {
    let values = |operand: &Operand| -> Vec<Value> {
        match operand {
            Operand::Literal(value) => vec![value.clone()],
            Operand::Path(path) => find(path, root, current).into_iter().cloned().collect(),
        }
    };
    let left = values(&filter.left);
    match &filter.test {
        None => !left.is_empty(),
        Some((comparison, right)) => {
            let right = values(right);
            left.iter().any(|left| right.iter().any(|right| compare(*comparison, left, right)))
        }
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(Ordering::Equal),
    };
    match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}
