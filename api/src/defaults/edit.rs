//! Editing JSON objects without overwriting: the vocabulary that the defaulting hooks are written in.

use serde_json::{Map, Value};

use crate::quantity::Quantity;

/// The fields of one JSON object.
pub(super) type Fields = Map<String, Value>;

/// Sets a field that is missing, `null` or `""`.
pub(super) fn set(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    if is_unset(fields, key) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Sets a number that is missing, `null` or 0: fields whose zero means "not given".
pub(super) fn set_number(fields: &mut Fields, key: &str, value: i64) {
    if is_unset(fields, key) || fields.get(key).and_then(Value::as_i64) == Some(0) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Whether a field is missing, `null` or `""`.
pub(super) fn is_unset(fields: &Fields, key: &str) -> bool {
    match fields.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => false,
    }
}

/// Returns the text of a field, or `""`.
pub(super) fn text<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns an object field that is there.
pub(super) fn existing<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    fields.get_mut(key).and_then(Value::as_object_mut)
}

/// Returns an object field, making it when it is missing or `null`; `None` when it holds something else.
pub(super) fn ensured<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    set(fields, key, Fields::new());
    existing(fields, key)
}

/// Visits the objects of a list field.
pub(super) fn each<'a>(fields: &'a mut Fields, key: &str) -> impl Iterator<Item = &'a mut Fields> {
    fields.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Puts the amounts of a resource list into canonical form, rounded up to thousandths.
///
/// Text that is no quantity stays for validation to refuse.
pub(super) fn canonicalise_resources(fields: &mut Fields, key: &str) {
    for amount in existing(fields, key).into_iter().flat_map(Map::values_mut) {
        if let Ok(quantity) = Quantity::from_value(amount) {
            *amount = quantity.round_up_to_milli().to_string().into();
        }
    }
}
