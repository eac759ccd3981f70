//! Collecting what is wrong, in the words of Kubernetes' `field.Error`.

use std::io;

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
        self.push("FieldValueRequired", at, || with_detail("Required value", detail));
    }

    /// `Invalid value: …: detail`, showing the value that stands there.
    pub(super) fn invalid(&mut self, at: &At<'_, '_>, detail: &str) {
        self.invalid_value(at, at.value(), detail);
    }

    /// `Invalid value: …: detail`, showing another value.
    pub(super) fn invalid_value(&mut self, at: &At<'_, '_>, value: &Value, detail: &str) {
        self.push("FieldValueInvalid", at, || with_detail(&format!("Invalid value: {}", show(value)), detail));
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
        self.push("FieldValueNotSupported", at, || {
            let quoted: Vec<String> = supported.iter().map(|value| quote(value)).collect();
            format!("Unsupported value: {}: supported values: {}", show(at.value()), quoted.join(", "))
        });
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
        self.push("FieldValueForbidden", at, || with_detail("Forbidden", detail));
    }

    /// `Duplicate value: …`.
    pub(super) fn duplicate(&mut self, at: &At<'_, '_>) {
        self.duplicate_value(at, at.value());
    }

    /// `Duplicate value: …`, showing another value.
    pub(super) fn duplicate_value(&mut self, at: &At<'_, '_>, value: &Value) {
        self.push("FieldValueDuplicate", at, || format!("Duplicate value: {}", show(value)));
    }

    /// `Duplicate value: …: detail`.
    pub(super) fn duplicate_with(&mut self, at: &At<'_, '_>, detail: &str) {
        self.push("FieldValueDuplicate", at, || with_detail(&format!("Duplicate value: {}", show(at.value())), detail));
    }

    /// `Not found: …`.
    pub(super) fn not_found(&mut self, at: &At<'_, '_>) {
        self.push("FieldValueNotFound", at, || format!("Not found: {}", show(at.value())));
    }

    /// `Too long: may not be more than N bytes`.
    pub(super) fn too_long(&mut self, at: &At<'_, '_>, bytes_max: usize) {
        self.push("FieldValueTooLong", at, || format!("Too long: may not be more than {bytes_max} bytes"));
    }

    /// `Too many: N: must have at most M items`.
    pub(super) fn too_many(&mut self, at: &At<'_, '_>, items_max: usize) {
        self.push("FieldValueTooMany", at, || format!("Too many: {}: must have at most {items_max} items", at.len()));
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

    /// Adds an error, spelling it out only when there is room for it.
    fn push(&mut self, reason: &'static str, at: &At<'_, '_>, message: impl FnOnce() -> String) {
        if self.list.len() < ERRORS_MAX {
            self.list.push(FieldError { reason, field: at.to_string(), message: message() });
        }
    }
}

/// Shows a value as Kubernetes does: text quoted, everything else as JSON, what is missing as empty text.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::String(text) => quote(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let mut head = Head::default();
            // The only error there can be is that the head is full, and a head is what is wanted.
            let _full = serde_json::to_writer(&mut head, value);
            String::from_utf8_lossy(&head.bytes).into_owned()
        }
    }
}

/// Keeps the first bytes of what is written and stops the writer there, so that showing a huge value costs little.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
}

impl io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SHOWN_BYTES_MAX - self.bytes.len();
        let taken = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..taken]);
        // Nothing taken of something offered tells the writer to give up.
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
