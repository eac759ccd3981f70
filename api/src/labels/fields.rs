//! Field selectors: equality on a few fields that each kind names.

use std::borrow::Cow;

use serde_json::Value;

use crate::{kinds::Kind, status::ApiError};

/// What fields can be read from by path, such as `spec.nodeName`.
pub trait Fields {
    /// Returns the value at the path.
    fn field(&self, path: &str) -> Option<&Value>;
}

impl Fields for Value {
    fn field(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, key| value.get(key))
    }
}

/// Most terms in one selector.
const TERMS_MAX: usize = 100;

/// A parsed field selector: `metadata.name=x,spec.nodeName!=y`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Parses the query form for a kind.
    ///
    /// # Errors
    /// 400 for malformed text and for a field the kind does not select by: `field label not supported: x`.
    pub fn parse(kind: &Kind, text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in split_terms(text).into_iter().filter(|part| !part.is_empty()) {
            if terms.len() == TERMS_MAX {
                return Err(ApiError::bad_request(format!("field selector is too large: at most {TERMS_MAX} terms")));
            }
            let (field, equal, raw) = split_term(part).ok_or_else(|| {
                ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?;
            let value = unescape(raw).map_err(ApiError::bad_request)?;
            terms.push(Term { field: supported(kind, field)?.to_owned(), equal, value });
        }
        Ok(Self { terms })
    }

    /// Whether this selector has no term.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns the value that `metadata.name` must equal, when there is such a term: it makes a list a get.
    pub fn exact_name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// Returns the value that a field must equal, when there is such a term: `spec.nodeName` narrows an index.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// Whether the object satisfies every term; a missing field counts as `""` (`false` for `spec.unschedulable`).
    pub fn matches(&self, object: &impl Fields) -> bool {
        self.terms.iter().all(|term| (field_text(object, &term.field) == term.value.as_str()) == term.equal)
    }
}

/// Returns the field that a label names for a kind, resolving old spellings.
fn supported<'a>(kind: &Kind, field: &'a str) -> Result<&'a str, ApiError> {
    let is_event = kind.kind == "Event";
    let canonical = match field {
        "spec.host" if kind.kind == "Pod" => "spec.nodeName",
        "reportingController" if is_event => "reportingComponent",
        other => other,
    };
    let general = canonical == "metadata.name" || (kind.namespaced && canonical == "metadata.namespace");
    let regarding = is_event && canonical.starts_with("regarding.");
    if general || regarding || kind.field_selectors.contains(&canonical) {
        return Ok(canonical);
    }
    Err(ApiError::bad_request(match kind.kind {
        "ReplicaSet" => format!("field label \"{field}\" not supported for appsv1.ReplicaSet"),
        _ if kind.field_selectors.is_empty() => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }))
}

/// Returns the text of a field as selectors compare it.
fn field_text<'a>(object: &'a impl Fields, field: &str) -> Cow<'a, str> {
    let found = match field {
        "source" => object.field("source.component").or_else(|| object.field("reportingComponent")),
        "reportingComponent" => object.field(field).or_else(|| object.field("reportingController")),
        "spec.serviceAccountName" => object.field(field).or_else(|| object.field("spec.serviceAccount")),
        _ => object.field(field).or_else(|| match field.split_once('.') {
            Some(("involvedObject", rest)) => object.field(&format!("regarding.{rest}")),
            Some(("regarding", rest)) => object.field(&format!("involvedObject.{rest}")),
            _ => None,
        }),
    };
    match found {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Cow::Owned(value.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => Cow::Borrowed(match field {
            "spec.unschedulable" | "spec.hostNetwork" => "false",
            "status.replicas" => "0",
            _ => "",
        }),
    }
}

/// Splits at commas that no backslash protects.
fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|letter| {
        let ends = letter == ',' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    })
    .collect()
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        return Some((field, true, value));
    }
    None
}

fn unescape(raw: &str) -> Result<String, String> {
    let mut value = String::with_capacity(raw.len());
    let mut letters = raw.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(next @ ('\\' | ',' | '=')) => value.push(next),
                Some(next) => return Err(format!("invalid field selector: invalid escape sequence: \\{next}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {letter}"));
            }
            other => value.push(other),
        }
    }
    Ok(value)
}
