//! A place in an object: the value there and the path that leads to it.
//!
//! The path is a chain of borrows and is spelled out only when there is something to report, so that walking a
//! healthy object allocates nothing.

use std::{fmt, iter};

use serde_json::{Map, Value};

/// Where a hook is looking.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'p, 'v> {
    value: &'v Value,
    parent: Option<&'p At<'p, 'v>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    /// Field names, perhaps several with dots between.
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

impl<'v> At<'_, 'v> {
    /// Stands at the top of an object.
    pub(super) fn root(value: &'v Value) -> Self {
        Self { value, parent: None, step: Step::Root }
    }

    /// Goes to a field, or to a field of a field: `spec.template.metadata`. A missing one holds `null`.
    pub(super) fn get<'s>(&'s self, path: &'s str) -> At<'s, 'v> {
        let value = path.split('.').try_fold(self.value, |value, field| value.get(field)).unwrap_or(&Value::Null);
        At { value, parent: Some(self), step: Step::Field(path) }
    }

    /// Goes to the value under a key of a map, written `[key]` in the path.
    pub(super) fn key<'s>(&'s self, key: &'s str) -> At<'s, 'v> {
        At { value: self.value.get(key).unwrap_or(&Value::Null), parent: Some(self), step: Step::Key(key) }
    }

    /// Visits the items of a list, none when this is no list.
    pub(super) fn items(&self) -> impl Iterator<Item = At<'_, 'v>> {
        let list = self.value.as_array().map_or(&[] as &[Value], Vec::as_slice);
        list.iter().enumerate().map(|(index, value)| At { value, parent: Some(self), step: Step::Index(index) })
    }

    /// Visits the entries of a map, none when this is no map.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'v str, At<'_, 'v>)> {
        let map = self.value.as_object().into_iter().flatten();
        map.map(|(key, value)| (key.as_str(), At { value, parent: Some(self), step: Step::Key(key) }))
    }

    /// Returns the value here.
    pub(super) fn value(&self) -> &'v Value {
        self.value
    }

    /// Returns the text here, `""` for anything else.
    pub(super) fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    /// Returns the whole number here.
    pub(super) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether this is `true`.
    pub(super) fn is_true(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// Whether there is anything but `null` here.
    pub(super) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Returns the map here.
    pub(super) fn map(&self) -> Option<&'v Map<String, Value>> {
        self.value.as_object()
    }

    /// Returns the number of items or entries here.
    pub(super) fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    /// Whether there are neither items nor entries here.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for At<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<Step<'_>> = iter::successors(Some(self), |at| at.parent).map(|at| at.step).collect();
        steps.reverse();
        let mut first = true;
        for step in steps {
            match step {
                Step::Root => continue,
                Step::Field(name) if first => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[{key}]")?,
            }
            first = false;
        }
        // Kubernetes spells the path of the whole object as an empty index.
        if first { f.write_str("[]") } else { Ok(()) }
    }
}
