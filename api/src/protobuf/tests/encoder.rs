//! The other direction, for tests only: JSON to the wire by the same table.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use crate::schema::{FieldType, Type};

pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

fn number_field(number: u32, value: i64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value.cast_unsigned(), out);
}

pub(super) fn envelope(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    bytes_field(1, api_version.as_bytes(), &mut type_meta);
    bytes_field(2, kind.as_bytes(), &mut type_meta);
    let mut body = b"k8s\0".to_vec();
    bytes_field(1, &type_meta, &mut body);
    bytes_field(2, object, &mut body);
    bytes_field(3, b"", &mut body);
    bytes_field(4, b"", &mut body);
    body
}

pub(super) fn message(ty: &Type, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, inlined) in &ty.inlined {
        bytes_field(*number, &message(inlined.resolve(), value), &mut out);
    }
    for field in ty.fields.iter().filter(|field| field.number > 0 && !field.is_inlined) {
        let Some(value) = value.get(field.name) else { continue };
        match (field.ty, value) {
            (FieldType::List(element), Value::Array(items)) => {
                items.iter().for_each(|item| single(field.number, *element, item, &mut out));
            }
            (FieldType::Map(element), Value::Object(entries)) => {
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    bytes_field(1, key.as_bytes(), &mut entry);
                    single(2, *element, value, &mut entry);
                    bytes_field(field.number, &entry, &mut out);
                }
            }
            (ty, value) => single(field.number, ty, value, &mut out),
        }
    }
    out
}

fn single(number: u32, ty: FieldType, value: &Value, out: &mut Vec<u8>) {
    let text = value.as_str().unwrap_or_default();
    let mut inner = Vec::new();
    match ty {
        FieldType::Int32 | FieldType::Int64 => return number_field(number, value.as_i64().unwrap_or_default(), out),
        FieldType::Bool => return number_field(number, value.as_bool().unwrap_or_default().into(), out),
        FieldType::String => inner.extend(text.as_bytes()),
        FieldType::Bytes => inner = STANDARD.decode(text).unwrap(),
        FieldType::Quantity => bytes_field(1, text.as_bytes(), &mut inner),
        FieldType::Time | FieldType::MicroTime => {
            if let Ok(time) = text.parse::<Timestamp>() {
                number_field(1, time.as_second(), &mut inner);
                number_field(2, time.subsec_nanosecond().into(), &mut inner);
            }
        }
        FieldType::Duration => {
            let seconds: f64 = text.trim_end_matches('s').parse().unwrap_or_default();
            number_field(1, (seconds * 1e9) as i64, &mut inner);
        }
        FieldType::IntOrString => {
            number_field(1, value.is_string().into(), &mut inner);
            number_field(2, value.as_i64().unwrap_or_default(), &mut inner);
            bytes_field(3, text.as_bytes(), &mut inner);
        }
        FieldType::Any | FieldType::FieldSet => bytes_field(1, value.to_string().as_bytes(), &mut inner),
        FieldType::Message(id) => inner = message(id.resolve(), value),
        FieldType::Items(element) => {
            value.as_array().into_iter().flatten().for_each(|item| single(1, *element, item, &mut inner));
        }
        FieldType::List(_) | FieldType::Map(_) => unreachable!("handled by the caller"),
    }
    bytes_field(number, &inner, out);
}

/// Drops what the wire cannot tell from nothing: zeros of scalars that are not nullable, and empty lists and maps.
pub(super) fn drop_meaningless_zeros(ty: FieldType, value: &mut Value) {
    match (ty, value) {
        (FieldType::Message(id), Value::Object(fields)) => {
            for field in &id.resolve().fields {
                let Some(inner) = fields.get_mut(field.name) else { continue };
                drop_meaningless_zeros(field.ty, inner);
                let is_empty = match inner {
                    Value::Bool(flag) => !*flag,
                    Value::Number(number) => number.as_i64() == Some(0),
                    Value::String(text) => text.is_empty() || text == "0s",
                    Value::Array(items) => items.is_empty(),
                    Value::Object(map) => map.is_empty() && matches!(field.ty, FieldType::Map(_)),
                    Value::Null => true,
                };
                if is_empty && field.ty != FieldType::Any && !field.is_nullable {
                    fields.remove(field.name);
                }
            }
        }
        (FieldType::List(element), Value::Array(items)) => {
            items.iter_mut().for_each(|item| drop_meaningless_zeros(*element, item));
        }
        (FieldType::Map(element), Value::Object(entries)) => {
            entries.values_mut().for_each(|item| drop_meaningless_zeros(*element, item));
        }
        _ => {}
    }
}
