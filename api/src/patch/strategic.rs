//! Applying a strategic merge patch.
//!
//! As in Kubernetes: objects are merged field by field, null deletes; a list is replaced unless the type table gives it
//! a merge strategy; the directives of [`super::directives`] say the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    directives::{self, DELETE_FROM, Directive, PATCH, RETAIN_KEYS, SET_ORDER},
    keys,
    lookup::Lookup,
};
use crate::{
    schema::{FieldType, Merge},
    status::ApiError,
};

pub(super) fn apply(ty: FieldType, object: &Value, patch: &Value) -> Result<Value, ApiError> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::bad_request("a strategic merge patch is a JSON object"));
    };
    let fields = object.as_object().cloned().unwrap_or_default();
    merge_object(ty, fields, patch).map(Value::Object)
}

fn merge_object(
    ty: FieldType,
    mut fields: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, ApiError> {
    match directives::read(patch)? {
        Directive::Merge => {}
        Directive::Replace => return directives::strip_object(patch),
        Directive::Delete => return Ok(Map::new()),
    }
    retain_keys(&mut fields, patch)?;
    for (name, change) in list_changes(patch)? {
        let current = fields.remove(name);
        if let Some(list) = change.apply(Lookup::field(ty, name), current)? {
            fields.insert(name.to_owned(), list);
        }
    }
    let handled = |key: &str| {
        patch.contains_key(&format!("{SET_ORDER}{key}")) || patch.contains_key(&format!("{DELETE_FROM}{key}"))
    };
    for (key, value) in patch {
        let is_list = value.is_array() && handled(key);
        if directives::is_directive(key) || is_list {
            continue;
        }
        let current = fields.remove(key);
        if let Some(merged) = merge_value(Lookup::field(ty, key), current, value)? {
            fields.insert(key.clone(), merged);
        }
    }
    Ok(fields)
}

fn merge_value(lookup: Lookup, current: Option<Value>, patch: &Value) -> Result<Option<Value>, ApiError> {
    match (current, patch) {
        (Some(Value::Object(fields)), Value::Object(patch)) if !lookup.replace => {
            merge_object(lookup.ty, fields, patch).map(|merged| Some(Value::Object(merged)))
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            merge_list(&lookup, items, patch, None).map(|merged| Some(Value::Array(merged)))
        }
        (_, patch) => directives::strip(patch),
    }
}

/// Removes every key that `$retainKeys` does not name.
fn retain_keys(fields: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || ApiError::bad_request("invalid patch format of retainKeys");
    let named: Option<BTreeSet<&str>> = directive.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let named = named.ok_or_else(malformed)?;
    let data = patch.iter().filter(|(key, value)| !value.is_null() && !directives::is_directive(key));
    if data.into_iter().any(|(key, _)| !named.contains(key.as_str())) {
        return Err(malformed());
    }
    fields.retain(|key, _| named.contains(key.as_str()));
    Ok(())
}

/// What a patch says of one list with directives beside it.
#[derive(Debug, Default)]
struct ListChange<'p> {
    items: Option<&'p [Value]>,
    order: Option<&'p [Value]>,
    delete: Option<&'p [Value]>,
}

fn list_changes(patch: &Map<String, Value>) -> Result<BTreeMap<&str, ListChange<'_>>, ApiError> {
    let mut changes: BTreeMap<&str, ListChange<'_>> = BTreeMap::new();
    for (key, value) in patch {
        let (name, is_order) = match (key.strip_prefix(SET_ORDER), key.strip_prefix(DELETE_FROM)) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => continue,
        };
        let list = value.as_array().ok_or_else(|| ApiError::bad_request(format!("{key} must be a list")))?;
        let change = changes.entry(name).or_default();
        change.items = patch.get(name).and_then(Value::as_array).map(Vec::as_slice);
        *(if is_order { &mut change.order } else { &mut change.delete }) = Some(list);
    }
    Ok(changes)
}

impl ListChange<'_> {
    /// Returns the list after the change; what is not a list stays what it is, unless the patch holds items.
    fn apply(&self, lookup: Lookup, current: Option<Value>) -> Result<Option<Value>, ApiError> {
        let (mut list, existed) = match current {
            Some(Value::Array(list)) => (list, true),
            None => (Vec::new(), false),
            Some(other) if self.items.is_none() => return Ok(Some(other)),
            Some(_) => (Vec::new(), false),
        };
        if let Some(delete) = self.delete {
            let delete: HashSet<String> = delete.iter().map(Value::to_string).collect();
            list.retain(|item| !delete.contains(&item.to_string()));
        }
        match (self.items, self.order) {
            (None, _) if !existed => Ok(None),
            (None, None) => Ok(Some(Value::Array(list))),
            (None, Some(order)) => {
                let wanted = wanted_order(order, &[], lookup.merge)?;
                let before = keys::positions(&list, lookup.merge);
                Ok(Some(Value::Array(keys::order(list, &wanted, &before, lookup.merge))))
            }
            (Some(items), order) => merge_list(&lookup, list, items, order).map(|list| Some(Value::Array(list))),
        }
    }
}

fn merge_list(
    lookup: &Lookup,
    list: Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
) -> Result<Vec<Value>, ApiError> {
    let merge = lookup.merge;
    let wanted = match order {
        Some(order) => wanted_order(order, patch, merge)?,
        None => keys::positions(patch.iter().filter(|item| item.get(PATCH).is_none()), merge),
    };
    let merged = match merge {
        Merge::Never => return directives::strip_list(patch),
        Merge::Scalars => {
            let before = keys::positions(&list, merge);
            return merge_scalars(list, patch).map(|merged| keys::order(merged, &wanted, &before, merge));
        }
        Merge::By(key) => Items::merge(lookup, key, list, patch)?,
    };
    Ok(keys::order(merged.items, &wanted, &merged.before, merge))
}

/// Reads `$setElementOrder`, which must name what the patch holds, in the same order.
fn wanted_order(order: &[Value], patch: &[Value], merge: Merge) -> Result<HashMap<String, usize>, ApiError> {
    for item in order {
        keys::of(item, merge)?;
    }
    let positions = keys::positions(order, merge);
    let mut last = 0;
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        match positions.get(&keys::of(item, merge)?) {
            Some(position) if *position >= last => last = *position,
            _ => {
                return Err(ApiError::bad_request(
                    "the order in the patch list doesn't match the $setElementOrder list",
                ));
            }
        }
    }
    Ok(positions)
}

fn merge_scalars(mut list: Vec<Value>, patch: &[Value]) -> Result<Vec<Value>, ApiError> {
    list.extend(patch.iter().cloned());
    let mut seen = HashSet::new();
    let mut merged = Vec::with_capacity(list.len());
    for item in list {
        if seen.insert(keys::of(&item, Merge::Scalars)?) {
            merged.push(item);
        }
    }
    Ok(merged)
}

/// A list of objects after a merge, and the places its items had before.
#[derive(Debug)]
struct Items {
    items: Vec<Value>,
    before: HashMap<String, usize>,
}

impl Items {
    fn merge(lookup: &Lookup, key: &'static str, list: Vec<Value>, patch: &[Value]) -> Result<Self, ApiError> {
        let merge = Merge::By(key);
        let mut deleted = HashSet::new();
        let mut changes = Vec::new();
        let mut replace = false;
        for item in patch {
            let Value::Object(fields) = item else { return Err(keys::missing(item, merge)) };
            match directives::read(fields)? {
                Directive::Merge => changes.push((keys::of(item, merge)?, fields)),
                Directive::Delete => {
                    deleted.insert(keys::of(item, merge)?);
                }
                Directive::Replace => replace = true,
            }
        }
        if replace {
            let items = patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect::<Vec<_>>();
            return Ok(Self { items: directives::strip_list(&items)?, before: HashMap::new() });
        }
        let kept = list.into_iter().filter(|item| keys::find(item, merge).is_none_or(|key| !deleted.contains(&key)));
        let mut items: Vec<Option<Value>> = kept.map(Some).collect();
        let before = keys::positions(items.iter().flatten(), merge);
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, item) in items.iter().flatten().enumerate() {
            if let Some(key) = keys::find(item, merge) {
                places.entry(key).or_default().push(index);
            }
        }
        for (key, change) in changes {
            let candidates = places.entry(key).or_default();
            if let Some(place) = choose(lookup, candidates, &items, change) {
                let current = items[place].take();
                items[place] = merge_value(Lookup::plain(lookup.item()), current, &Value::Object(change.clone()))?;
            } else {
                candidates.push(items.len());
                items.push(Some(Value::Object(directives::strip_object(change)?)));
            }
        }
        Ok(Self { items: items.into_iter().flatten().collect(), before })
    }
}

/// Chooses the item that a change means among those with its merge key.
///
/// Service ports are merged by `port` alone, yet 53/TCP and 53/UDP are two ports: the one that agrees in the other
/// keys is meant, and the first when none does (then the change changes those keys).
fn choose(
    lookup: &Lookup,
    candidates: &[usize],
    items: &[Option<Value>],
    change: &Map<String, Value>,
) -> Option<usize> {
    let agrees = |index: &&usize| {
        let item = items[**index].as_ref();
        lookup
            .map_keys
            .iter()
            .all(|key| change.get(*key).is_none_or(|wanted| item.and_then(|item| item.get(*key)) == Some(wanted)))
    };
    candidates.iter().find(agrees).or_else(|| candidates.first()).copied()
}
