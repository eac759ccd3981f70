//! From the wire to JSON, field by field of the type table.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::wire::{Problem, Reader, Wire};
use crate::{
    decode::MAX_DEPTH,
    schema::{Field, FieldType, Type},
};

/// Reads a message of type `ty` into `fields`.
pub(super) fn read(
    ty: &'static Type,
    bytes: &[u8],
    depth: usize,
    fields: &mut Map<String, Value>,
) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err(Problem::Depth);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        if let Some((_, inlined)) = ty.inlined.iter().find(|(inlined, _)| *inlined == number) {
            read(inlined.resolve(), value.bytes()?, depth + 1, fields)?;
        } else if let Some(field) = ty.fields.iter().find(|field| !field.is_inlined && field.number == number) {
            add(field, value, depth, fields)?;
        }
    }
    Ok(())
}

fn add(field: &Field, value: Wire<'_>, depth: usize, fields: &mut Map<String, Value>) -> Result<(), Problem> {
    match field.ty {
        FieldType::List(element) => {
            let slot = fields.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = slot {
                add_items(*element, value, depth, list)?;
            }
        }
        FieldType::Map(element) => {
            let (key, value) = entry(*element, value.bytes()?, depth)?;
            let slot = fields.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = slot {
                map.insert(key, value);
            }
        }
        ty => {
            let value = single(ty, value, depth)?;
            // Free-form JSON says what it says; a scalar's zero is what the wire has for nothing at all.
            let is_meant = field.is_nullable || field.is_required || ty == FieldType::Any || !is_zero(&value);
            if is_meant && !value.is_null() {
                fields.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Adds one item, or all of a packed list of numbers.
fn add_items(element: FieldType, value: Wire<'_>, depth: usize, list: &mut Vec<Value>) -> Result<(), Problem> {
    let is_number = matches!(element, FieldType::Int32 | FieldType::Int64 | FieldType::Bool);
    let Wire::Bytes(bytes) = value else {
        list.push(single(element, value, depth)?);
        return Ok(());
    };
    if !is_number {
        list.push(single(element, value, depth)?);
        return Ok(());
    }
    let mut packed = Reader::new(bytes);
    while !packed.is_at_end() {
        list.push(single(element, Wire::Varint(packed.varint()?), depth)?);
    }
    Ok(())
}

fn entry(element: FieldType, bytes: &[u8], depth: usize) -> Result<(String, Value), Problem> {
    let mut key = String::new();
    let mut held = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => value.text()?.clone_into(&mut key),
            2 => held = Some(value),
            _ => {}
        }
    }
    // An absent value is a zero one.
    let empty = if matches!(element, FieldType::Int32 | FieldType::Int64 | FieldType::Bool) {
        Wire::Varint(0)
    } else {
        Wire::Bytes(&[])
    };
    Ok((key, single(element, held.unwrap_or(empty), depth + 1)?))
}

fn single(ty: FieldType, value: Wire<'_>, depth: usize) -> Result<Value, Problem> {
    Ok(match ty {
        FieldType::String => value.text()?.into(),
        #[expect(clippy::cast_possible_truncation, reason = "a 32-bit field is the low half of its varint")]
        FieldType::Int32 => (value.varint()? as i32).into(),
        FieldType::Int64 => value.varint()?.cast_signed().into(),
        FieldType::Bool => (value.varint()? != 0).into(),
        FieldType::Bytes => STANDARD.encode(value.bytes()?).into(),
        FieldType::Time => time(value.bytes()?, 0)?,
        FieldType::MicroTime => time(value.bytes()?, 6)?,
        FieldType::Duration => duration(value.bytes()?)?,
        FieldType::Quantity => text_of(value.bytes()?)?.into(),
        FieldType::IntOrString => int_or_string(value.bytes()?)?,
        FieldType::Any | FieldType::FieldSet => embedded_json(value.bytes()?)?,
        FieldType::Message(id) => {
            let mut fields = Map::new();
            read(id.resolve(), value.bytes()?, depth + 1, &mut fields)?;
            Value::Object(fields)
        }
        FieldType::Items(element) => {
            let mut list = Vec::new();
            let mut reader = Reader::new(value.bytes()?);
            while let Some((number, value)) = reader.next()? {
                if number == 1 {
                    add_items(*element, value, depth + 1, &mut list)?;
                }
            }
            Value::Array(list)
        }
        // A list or map directly within another has no form on the wire, and the table has none.
        FieldType::List(_) | FieldType::Map(_) => return Err(Problem::WireType),
    })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_i64() == Some(0),
        Value::String(value) => value.is_empty(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Reads `{seconds, nanos}`; nothing at all is no time.
fn time(bytes: &[u8], digits: usize) -> Result<Value, Problem> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => seconds = value.varint()?.cast_signed(),
            2 => nanos = i32::try_from(value.varint()?.cast_signed()).map_err(|_| Problem::Time)?,
            _ => {}
        }
    }
    let nanos = if digits == 0 { 0 } else { nanos };
    let time = Timestamp::new(seconds, nanos).map_err(|_| Problem::Time)?;
    Ok(Value::String(if digits == 0 { format!("{time:.0}") } else { format!("{time:.6}") }))
}

/// Reads `{duration}`, in nanoseconds, into Go's text.
fn duration(bytes: &[u8]) -> Result<Value, Problem> {
    let mut nanos = 0;
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            nanos = value.varint()?.cast_signed();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "durations on the wire are of seconds, far from 2^53 of them")]
    let seconds = nanos as f64 / 1e9;
    Ok(format!("{seconds}s").into())
}

/// Reads the one string of a message.
fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            text = value.text()?;
        }
    }
    Ok(text)
}

/// Reads `{type, intVal, strVal}`.
fn int_or_string(bytes: &[u8]) -> Result<Value, Problem> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((field, value)) = reader.next()? {
        match field {
            1 => is_text = value.varint()? == 1,
            2 => number = value.varint()?.cast_signed(),
            3 => text = value.text()?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

/// Reads `{raw}`, which holds JSON.
fn embedded_json(bytes: &[u8]) -> Result<Value, Problem> {
    let mut raw: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        if number == 1 {
            raw = value.bytes()?;
        }
    }
    if raw.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(raw).map_err(|_| Problem::Json) }
}
