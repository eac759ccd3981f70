//! The pass over a body: a serde seed that knows which type comes next.
//!
//! Works on bytes and on values alike, because both are serde deserializers. A wrong type ends the pass with
//! [`Walk::problem`]; unknown and duplicate fields are collected in [`Walk::findings`].

use std::{borrow::Cow, collections::HashSet, fmt, fmt::Write as _};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{MAX_DEPTH, scalar};
use crate::schema::{FieldType, Type};

/// Kubernetes' decoder stops collecting at this number too; a hostile body cannot make an endless answer.
const MAX_FINDINGS: usize = 100;

/// How much of a name from a body a message repeats.
const MAX_QUOTED: usize = 256;

/// The state of one pass.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Why the pass ended early.
    pub(super) problem: Option<String>,
    /// Unknown and duplicate fields, in the order of the document.
    pub(super) findings: Vec<String>,
    path: Vec<Step>,
    /// The innermost type that the value at hand is in, for messages.
    holder: Option<&'static str>,
}

#[derive(Debug)]
enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

/// One value of a known type that comes next.
#[derive(Debug)]
pub(super) struct Seed<'w> {
    walk: &'w mut Walk,
    ty: FieldType,
}

impl Walk {
    pub(super) fn seed(&mut self, ty: FieldType) -> Seed<'_> {
        Seed { walk: self, ty }
    }

    fn find(&mut self, what: &str, name: &str) {
        if self.findings.len() < MAX_FINDINGS {
            let path = self.path_to(name);
            self.findings.push(format!("{what} field \"{path}\""));
        }
    }

    /// Returns `spec.containers[0].imag`.
    fn path_to(&self, name: &str) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => push_name(&mut text, name),
                Step::Key(name) => push_name(&mut text, shorten(name)),
                Step::Index(index) => write!(text, "[{index}]").expect("writing into memory cannot fail"),
            }
        }
        push_name(&mut text, shorten(name));
        text
    }

    /// Returns `Go struct field Container.spec.containers.image of type string`, the words of Kubernetes' decoder.
    fn place(&self, ty: FieldType) -> String {
        let ty = scalar::go_type(ty);
        let Some(holder) = self.holder else { return format!("Go value of type {ty}") };
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                Step::Key(_) | Step::Index(_) => None,
            })
            .collect();
        format!("Go struct field {holder}.{} of type {ty}", fields.join("."))
    }

    fn mismatch<E: de::Error>(&mut self, found: &str, ty: FieldType) -> E {
        let place = self.place(ty);
        self.fail(format!("json: cannot unmarshal {found} into {place}"))
    }

    fn fail<E: de::Error>(&mut self, problem: String) -> E {
        let error = E::custom(&problem);
        self.problem = Some(problem);
        error
    }
}

fn push_name(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

fn shorten(name: &str) -> &str {
    name.char_indices().nth(MAX_QUOTED).map_or(name, |(end, _)| &name[..end])
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.walk.path.len() > MAX_DEPTH {
            return Err(self.walk.fail(format!("exceeded max depth: more than {MAX_DEPTH} levels of nesting")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&scalar::go_type(self.ty))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        if matches!(self.ty, FieldType::Bool | FieldType::Any) {
            return Ok(Value::Bool(value));
        }
        Err(self.walk.mismatch("bool", self.ty))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.number(value.into(), Some(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.number(value.into(), i64::try_from(value).ok())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.number(value.into(), None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(Cow::Borrowed(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.text(Cow::Owned(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let element = match self.ty {
            FieldType::Any => FieldType::Any,
            FieldType::List(element) | FieldType::Items(element) => *element,
            ty => return Err(self.walk.mismatch("array", ty)),
        };
        let mut list = Vec::new();
        loop {
            self.walk.path.push(Step::Index(list.len()));
            let item = items.next_element_seed(self.walk.seed(element))?;
            self.walk.path.pop();
            let Some(item) = item else { return Ok(Value::Array(list)) };
            list.push(scalar::zero_for_null(item, element));
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        match self.ty {
            FieldType::Message(id) => self.message(id.resolve(), entries),
            FieldType::Map(element) => self.free_map(*element, entries),
            FieldType::Any | FieldType::FieldSet => self.free_map(FieldType::Any, entries),
            ty => Err(self.walk.mismatch("object", ty)),
        }
    }
}

impl Seed<'_> {
    fn number<E: de::Error>(self, number: Value, integer: Option<i64>) -> Result<Value, E> {
        let fits = match self.ty {
            FieldType::Int32 | FieldType::IntOrString => integer.is_some_and(|value| i32::try_from(value).is_ok()),
            FieldType::Int64 => integer.is_some(),
            FieldType::Any => true,
            FieldType::Quantity => return Ok(Value::String(number.to_string())),
            ty => return Err(self.walk.mismatch("number", ty)),
        };
        if fits { Ok(number) } else { Err(self.walk.mismatch(&format!("number {number}"), self.ty)) }
    }

    fn text<E: de::Error>(self, text: Cow<'_, str>) -> Result<Value, E> {
        match scalar::text(self.ty, text) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(self.walk.mismatch("string", self.ty)),
            Err(problem) => Err(self.walk.fail(problem)),
        }
    }

    fn message<'de, A: MapAccess<'de>>(self, ty: &'static Type, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        let mut seen = vec![false; ty.fields.len()];
        let mut reported = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let Some(index) = ty.index_of(&name) else {
                entries.next_value::<de::IgnoredAny>()?;
                if reported.insert(name.clone()) {
                    self.walk.find("unknown", &name);
                }
                continue;
            };
            let field = &ty.fields[index];
            let told = !crate::mutants::active("A04-second-key-wins");
            if std::mem::replace(&mut seen[index], true) && reported.insert(name) && told {
                self.walk.find("duplicate", field.name);
            }
            let holder = self.walk.holder.replace(ty.name);
            self.walk.path.push(Step::Field(field.name));
            let value = entries.next_value_seed(self.walk.seed(field.ty))?;
            self.walk.path.pop();
            self.walk.holder = holder;
            match value {
                Value::Null => fields.remove(field.name),
                value => fields.insert(field.name.to_owned(), value),
            };
        }
        Ok(Value::Object(fields))
    }

    fn free_map<'de, A: MapAccess<'de>>(self, element: FieldType, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        // What is inside free-form JSON is its reader's business; Kubernetes does not look for duplicates there.
        let finds_duplicates = element != FieldType::Any;
        while let Some(key) = entries.next_key::<String>()? {
            if finds_duplicates && map.contains_key(&key) {
                self.walk.find("duplicate", &key);
            }
            self.walk.path.push(Step::Key(key.clone()));
            let value = entries.next_value_seed(self.walk.seed(element))?;
            self.walk.path.pop();
            map.insert(key, scalar::zero_for_null(value, element));
        }
        Ok(Value::Object(map))
    }
}
