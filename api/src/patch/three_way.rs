//! The patch that `apply` sends, computed in one walk over three documents.
//!
//! `original` is what was applied last time, `modified` what is to be applied now, `current` the live object. The patch
//! sets what `modified` says differently from `current` and deletes what `original` said and `modified` no longer does;
//! what others added to `current` is left alone.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::{
    directives::{DELETE_FROM, PATCH, RETAIN_KEYS, SET_ORDER},
    keys,
    lookup::Lookup,
};
use crate::{
    schema::{FieldType, Merge},
    status::ApiError,
};

type Fields = Map<String, Value>;

pub(super) fn strategic(ty: FieldType, original: &Value, modified: &Value, current: &Value) -> Result<Value, ApiError> {
    let none = Fields::new();
    let fields = |value: &'_ Value| value.as_object().cloned();
    let modified = fields(modified).ok_or_else(|| ApiError::bad_request("what is applied must be a JSON object"))?;
    let (original, current) = (original.as_object().unwrap_or(&none), current.as_object().unwrap_or(&none));
    diff(&Lookup::plain(ty), original, &modified, current).map(Value::Object)
}

/// The same walk where no field has a strategy.
pub(super) fn plain(original: &Value, modified: &Value, current: &Value) -> Value {
    strategic(FieldType::Any, original, modified, current).unwrap_or_else(|_| modified.clone())
}

fn diff(lookup: &Lookup, original: &Fields, modified: &Fields, current: &Fields) -> Result<Fields, ApiError> {
    let mut patch = Fields::new();
    for (key, wanted) in modified {
        let field = Lookup::field(lookup.ty, key);
        diff_field(&field, key, original.get(key), wanted, current.get(key), &mut patch)?;
    }
    let gone = original.keys().filter(|key| !modified.contains_key(*key) && current.contains_key(*key));
    patch.extend(gone.map(|key| (key.clone(), Value::Null)));
    let others_added = current.keys().any(|key| !modified.contains_key(key));
    if lookup.retain_keys && (!patch.is_empty() || others_added) {
        let kept = modified.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str());
        patch.insert(RETAIN_KEYS.to_owned(), kept.collect());
    }
    Ok(patch)
}

fn diff_field(
    field: &Lookup,
    key: &str,
    original: Option<&Value>,
    wanted: &Value,
    current: Option<&Value>,
    patch: &mut Fields,
) -> Result<(), ApiError> {
    match (wanted, current) {
        (Value::Null, None) => {}
        (Value::Object(wanted), Some(Value::Object(current))) if !field.replace => {
            let none = Fields::new();
            let original = original.and_then(Value::as_object).unwrap_or(&none);
            let inner = diff(field, original, wanted, current)?;
            if !inner.is_empty() {
                patch.insert(key.to_owned(), Value::Object(inner));
            }
        }
        (Value::Array(wanted), Some(Value::Array(current))) if field.merge != Merge::Never => {
            let original = original.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            ListDiff { field, original, wanted, current }.write(key, patch)?;
        }
        (wanted, Some(current)) if wanted == current => {}
        (wanted, _) => {
            patch.insert(key.to_owned(), wanted.clone());
        }
    }
    Ok(())
}

/// Three lists that a merge strategy merges.
#[derive(Debug)]
struct ListDiff<'a> {
    field: &'a Lookup,
    original: &'a [Value],
    wanted: &'a [Value],
    current: &'a [Value],
}

impl ListDiff<'_> {
    fn write(&self, name: &str, patch: &mut Fields) -> Result<(), ApiError> {
        let merge = self.field.merge;
        let wanted_keys = self.wanted.iter().map(|item| keys::of(item, merge)).collect::<Result<Vec<_>, _>>()?;
        let wanted = keys::positions(self.wanted, merge);
        let current = keys::positions(self.current, merge);
        if wanted.len() < self.wanted.len() || current.len() < self.current.len() {
            return self.write_replacement(name, patch);
        }
        let mut gone = Vec::new();
        let mut gone_keys = HashSet::new();
        for item in self.original {
            let key = keys::of(item, merge)?;
            if !wanted.contains_key(&key) && current.contains_key(&key) && gone_keys.insert(key) {
                gone.push(item);
            }
        }
        let mut items = self.changes(&wanted_keys, &current)?;
        if let Merge::By(key) = merge {
            items.extend(gone.iter().map(|item| json!({PATCH: "delete", key: item[key]})));
        } else if !gone.is_empty() {
            patch.insert(format!("{DELETE_FROM}{name}"), gone.into_iter().cloned().collect());
        }
        let changes = !items.is_empty() || !gone_keys.is_empty();
        if changes || !in_order(&wanted_keys, &current) {
            patch.insert(format!("{SET_ORDER}{name}"), self.order());
        }
        if !items.is_empty() {
            patch.insert(name.to_owned(), Value::Array(items));
        }
        Ok(())
    }

    /// Returns the items that are new or that differ, in the order that is wanted.
    fn changes(&self, wanted_keys: &[String], current: &HashMap<String, usize>) -> Result<Vec<Value>, ApiError> {
        let Merge::By(merge_key) = self.field.merge else {
            let new = self.wanted.iter().zip(wanted_keys).filter(|(_, key)| !current.contains_key(*key));
            return Ok(new.map(|(item, _)| item.clone()).collect());
        };
        let original = keys::positions(self.original, self.field.merge);
        let lookup = Lookup { retain_keys: self.field.retain_keys, ..Lookup::plain(self.field.item()) };
        let none = Fields::new();
        let mut changes = Vec::new();
        for (item, key) in self.wanted.iter().zip(wanted_keys) {
            let (Some(fields), Some(place)) = (item.as_object(), current.get(key)) else {
                changes.push(item.clone());
                continue;
            };
            let before = original.get(key).and_then(|place| self.original[*place].as_object()).unwrap_or(&none);
            let now = self.current[*place].as_object().unwrap_or(&none);
            let mut change = diff(&lookup, before, fields, now)?;
            if !change.is_empty() {
                change.insert(merge_key.to_owned(), item[merge_key].clone());
                changes.push(Value::Object(change));
            }
        }
        Ok(changes)
    }

    fn order(&self) -> Value {
        match self.field.merge {
            Merge::By(key) => self.wanted.iter().map(|item| json!({key: item[key]})).collect(),
            Merge::Scalars | Merge::Never => self.wanted.to_vec().into(),
        }
    }

    /// Items that share a merge key, such as 53/TCP and 53/UDP, cannot be told apart in a patch: the list is replaced.
    fn write_replacement(&self, name: &str, patch: &mut Fields) -> Result<(), ApiError> {
        if self.wanted == self.current {
            return Ok(());
        }
        let mut items = self.wanted.to_vec();
        if matches!(self.field.merge, Merge::By(_)) {
            items.insert(0, json!({PATCH: "replace"}));
        }
        patch.insert(name.to_owned(), Value::Array(items));
        Ok(())
    }
}

/// Whether the live list holds the wanted items in the wanted order, whatever else it holds.
fn in_order(wanted: &[String], current: &HashMap<String, usize>) -> bool {
    let places: Vec<usize> = wanted.iter().filter_map(|key| current.get(key).copied()).collect();
    places.is_sorted()
}
