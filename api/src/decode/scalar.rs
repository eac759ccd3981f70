//! Values without parts: which text fits which type, and how Kubernetes' decoder calls a type.

use std::borrow::Cow;

use base64::{
    DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding},
    Engine as _,
    engine::general_purpose::STANDARD,
};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde_json::{Map, Value};

use crate::schema::FieldType;

/// Fits a string into a type: `Ok(None)` where a string has no place, `Err` with the reason where this one has none.
pub(super) fn text(ty: FieldType, text: Cow<'_, str>) -> Result<Option<Value>, String> {
    match ty {
        FieldType::String | FieldType::IntOrString | FieldType::Any | FieldType::Duration => {}
        FieldType::Bytes => check_base64(&text)?,
        FieldType::Quantity => check_quantity(&text)?,
        FieldType::Time => return time(&text, 0).map(Some),
        FieldType::MicroTime => return time(&text, 6).map(Some),
        FieldType::Int32
        | FieldType::Int64
        | FieldType::Bool
        | FieldType::FieldSet
        | FieldType::Message(_)
        | FieldType::List(_)
        | FieldType::Map(_)
        | FieldType::Items(_) => return Ok(None),
    }
    Ok(Some(Value::String(text.into_owned())))
}

fn check_base64(text: &str) -> Result<(), String> {
    let at = match STANDARD.decode(text) {
        Ok(_) => return Ok(()),
        Err(InvalidByte(at, _) | InvalidLastSymbol(at, _) | InvalidLength(at)) => at,
        Err(InvalidPadding) => text.len(),
    };
    Err(format!("illegal base64 data at input byte {at}"))
}

/// Checks the shape of a quantity; its range is validation's business. The empty text is zero to Kubernetes.
fn check_quantity(text: &str) -> Result<(), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let suffix = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &unsigned[..unsigned.len() - suffix.len()];
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let is_exponent = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_suffix = matches!(suffix, "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E")
        || matches!(suffix, "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei")
        || suffix.strip_prefix(['e', 'E']).is_some_and(is_exponent);
    if text.is_empty() || is_number && is_suffix {
        return Ok(());
    }
    Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned())
}

/// Reads RFC 3339 and writes it in UTC with a fixed number of digits, so that equal times are equal texts.
fn time(text: &str, digits: u8) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let bytes = text.as_bytes();
    let is_rfc3339 = bytes.len() >= "2006-01-02T15:04:05Z".len()
        && bytes[0].is_ascii_digit()
        && matches!(bytes[10], b'T' | b't')
        && !text.contains('[');
    if let Some(time) = text.parse::<Timestamp>().ok().filter(|_| is_rfc3339) {
        let mut out = String::with_capacity("2006-01-02T15:04:05.000000Z".len());
        let printed = DateTimePrinter::new().precision(Some(digits)).print_timestamp(&time, &mut out);
        return printed.map(|()| Value::String(out)).map_err(|error| error.to_string());
    }
    let text: String = text.chars().take(64).collect();
    Err(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": it is not a time of RFC 3339"))
}

/// Replaces a null inside a list or a map by the zero value, as Kubernetes' decoder does; fields with null vanish.
pub(super) fn zero_for_null(value: Value, ty: FieldType) -> Value {
    if !value.is_null() {
        return value;
    }
    match ty {
        FieldType::String | FieldType::Bytes | FieldType::Duration => Value::String(String::new()),
        FieldType::Quantity => Value::String("0".to_owned()),
        FieldType::Int32 | FieldType::Int64 | FieldType::IntOrString => 0.into(),
        FieldType::Bool => false.into(),
        FieldType::Message(_) | FieldType::Map(_) | FieldType::FieldSet => Value::Object(Map::new()),
        FieldType::List(_) | FieldType::Items(_) => Value::Array(Vec::new()),
        FieldType::Any | FieldType::Time | FieldType::MicroTime => Value::Null,
    }
}

/// Returns what Kubernetes' decoder calls a type: `int32`, `[]v1.Container`, `map[string]string`.
pub(super) fn go_type(ty: FieldType) -> String {
    let name = match ty {
        FieldType::String => "string",
        FieldType::Int32 => "int32",
        FieldType::Int64 => "int64",
        FieldType::Bool => "bool",
        FieldType::Bytes => "[]uint8",
        FieldType::Time => "v1.Time",
        FieldType::MicroTime => "v1.MicroTime",
        FieldType::Duration => "v1.Duration",
        FieldType::Quantity => "resource.Quantity",
        FieldType::IntOrString => "intstr.IntOrString",
        FieldType::Any => "runtime.RawExtension",
        FieldType::FieldSet => "v1.FieldsV1",
        FieldType::Message(id) => {
            let ty = id.resolve();
            let version = ty.package.name.rsplit('.').next().unwrap_or_default();
            return format!("{version}.{}", ty.name);
        }
        FieldType::List(element) | FieldType::Items(element) => return format!("[]{}", go_type(*element)),
        FieldType::Map(element) => return format!("map[string]{}", go_type(*element)),
    };
    name.to_owned()
}
