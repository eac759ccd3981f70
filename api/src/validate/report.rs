//! Collecting what is wrong, in the words of Kubernetes' `field.Error`.

use serde_json::Value;

use super::cursor::At;
use crate::status::FieldError;

/// Most errors that are kept of one object: enough to act on, and a bound on what hostile objects cost.
const ERRORS_MAX: usize = 100;
/// Longest value that is shown in a message, in bytes.
const SHOWN_BYTES_MAX: usize = 4096;

/// The errors found so far.
#[derive(Debug, Default)]
pub(super) struct Errors {
    list: Vec<FieldError>,
}

impl Errors {
    /// Returns what was found.
    pub(super) fn into_list(self) -> Vec<FieldError> {
        self.list
    }

    /// `Required value`, with a detail unless it is empty.
    pub(super) fn required(&mut self, at: &At<'_, '_>, detail: &str) {
        self.push("FieldValueRequired", at.to_string(), with_detail("Required value", detail));
    }

    /// `Invalid value: …: detail`, showing the value that stands there.
    pub(super) fn invalid(&mut self, at: &At<'_, '_>, detail: &str) {
        self.invalid_value(at, at.value(), detail);
    }

    /// `Invalid value: …: detail`, showing another value.
    pub(super) fn invalid_value(&mut self, at: &At<'_, '_>, value: &Value, detail: &str) {
        let text = with_detail(&format!("Invalid value: {}", show(value)), detail);
        self.push("FieldValueInvalid", at.to_string(), text);
    }

    /// `Invalid value: "…": message` once for each message of a check.
    pub(super) fn check(&mut self, at: &At<'_, '_>, messages: Vec<String>) {
        for message in messages {
            self.invalid(at, &message);
        }
    }

    /// [`Self::check`] that shows a number, where a missing one counts as 0.
    pub(super) fn check_number(&mut self, at: &At<'_, '_>, number: i64, messages: Vec<String>) {
        for message in messages {
            self.invalid_value(at, &Value::from(number), &message);
        }
    }

    /// [`Self::check`] that shows a text other than what stands there, such as a map's key.
    pub(super) fn check_text(&mut self, at: &At<'_, '_>, text: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid_value(at, &Value::from(text), &message);
        }
    }

    /// `Unsupported value: …: supported values: "A", "B"`.
    pub(super) fn not_supported(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let text = format!("Unsupported value: {}: supported values: {}", show(at.value()), quoted.join(", "));
        self.push("FieldValueNotSupported", at.to_string(), text);
    }

    /// Requires one of a few words; an empty one is `Required value`.
    pub(super) fn one_of(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        if at.text().is_empty() {
            self.required(at, "");
        } else if !supported.contains(&at.text()) {
            self.not_supported(at, supported);
        }
    }

    /// `Forbidden: detail`.
    pub(super) fn forbidden(&mut self, at: &At<'_, '_>, detail: &str) {
        self.push("FieldValueForbidden", at.to_string(), with_detail("Forbidden", detail));
    }

    /// `Duplicate value: …`.
    pub(super) fn duplicate(&mut self, at: &At<'_, '_>) {
        self.duplicate_value(at, at.value());
    }

    /// `Duplicate value: …`, showing another value.
    pub(super) fn duplicate_value(&mut self, at: &At<'_, '_>, value: &Value) {
        self.push("FieldValueDuplicate", at.to_string(), format!("Duplicate value: {}", show(value)));
    }

    /// `Duplicate value: …: detail`.
    pub(super) fn duplicate_with(&mut self, at: &At<'_, '_>, detail: &str) {
        let text = with_detail(&format!("Duplicate value: {}", show(at.value())), detail);
        self.push("FieldValueDuplicate", at.to_string(), text);
    }

    /// `Not found: …`.
    pub(super) fn not_found(&mut self, at: &At<'_, '_>) {
        self.push("FieldValueNotFound", at.to_string(), format!("Not found: {}", show(at.value())));
    }

    /// `Too long: may not be more than N bytes`.
    pub(super) fn too_long(&mut self, at: &At<'_, '_>, bytes_max: usize) {
        // Kubernetes writes the path of the object itself as an empty index.
        let path = at.to_string();
        let path = if path.is_empty() { "[]".to_owned() } else { path };
        self.push("FieldValueTooLong", path, format!("Too long: may not be more than {bytes_max} bytes"));
    }

    /// `Too many: N: must have at most M items`.
    pub(super) fn too_many(&mut self, at: &At<'_, '_>, items_max: usize) {
        let text = format!("Too many: {}: must have at most {items_max} items", at.len());
        self.push("FieldValueTooMany", at.to_string(), text);
    }

    /// `must be greater than or equal to 0`, for a number that is there.
    pub(super) fn non_negative(&mut self, at: &At<'_, '_>) {
        if at.number().is_some_and(|number| number < 0) {
            self.invalid(at, "must be greater than or equal to 0");
        }
    }

    /// `field is immutable`, when two places differ.
    pub(super) fn immutable(&mut self, at: &At<'_, '_>, old: &At<'_, '_>) {
        if at.value() != old.value() {
            self.invalid(at, "field is immutable");
        }
    }

    fn push(&mut self, reason: &'static str, field: String, message: String) {
        if self.list.len() < ERRORS_MAX {
            self.list.push(FieldError { reason, field, message });
        }
    }
}

/// Shows a value as Kubernetes does: text quoted, everything else as JSON, what is missing as empty text.
fn show(value: &Value) -> String {
    let text = match value {
        Value::Null => return "\"\"".to_owned(),
        Value::String(text) => return quote(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    cut(&text).to_owned()
}

/// Quotes a text as Go's `%q` does.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(SHOWN_BYTES_MAX) + 2);
    quoted.push('"');
    for letter in cut(text).chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\'' => quoted.push('\''),
            plain if plain.escape_debug().count() == 1 => quoted.push(plain),
            ascii if ascii.is_ascii() => quoted.push_str(&format!("\\x{:02x}", u32::from(ascii))),
            basic if u32::from(basic) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(basic))),
            other => quoted.push_str(&format!("\\U{:08x}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn with_detail(text: &str, detail: &str) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
}
