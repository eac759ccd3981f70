//! Telling the items of a list apart by their merge key, and putting them in order.

use std::collections::HashMap;

use serde_json::Value;

use crate::{schema::Merge, status::ApiError};

/// What makes an item of a list itself: the text of its merge key, or of the scalar.
pub(super) type Key = String;

/// Returns the key of an item.
///
/// # Errors
/// 400 for an item that has none.
pub(super) fn of(item: &Value, merge: Merge) -> Result<Key, ApiError> {
    find(item, merge).ok_or_else(|| missing(item, merge))
}

/// The refusal of an item without a key.
pub(super) fn missing(item: &Value, merge: Merge) -> ApiError {
    let shown: String = item.to_string().chars().take(256).collect();
    ApiError::bad_request(match merge {
        Merge::By(key) => format!("map: {shown} does not contain declared merge key: {key}"),
        Merge::Scalars | Merge::Never => format!("a list of scalars cannot hold {shown}"),
    })
}

/// Returns the key of an item, `None` when it has none and so equals no other.
pub(super) fn find(item: &Value, merge: Merge) -> Option<Key> {
    let value = match merge {
        Merge::By(key) => item.get(key)?,
        Merge::Scalars | Merge::Never => item,
    };
    (!value.is_object() && !value.is_array() && !value.is_null()).then(|| value.to_string())
}

/// Returns the first position of each key.
pub(super) fn positions<'a>(items: impl IntoIterator<Item = &'a Value>, merge: Merge) -> HashMap<Key, usize> {
    let mut found = HashMap::new();
    for (index, item) in items.into_iter().enumerate() {
        if let Some(key) = find(item, merge) {
            found.entry(key).or_insert(index);
        }
    }
    found
}

/// Puts items in order: those that `wanted` names as it has them, the others in their places of `before` among them.
///
/// A list that a patch and the cluster both add to keeps the patch's order where the patch states one, and an item
/// that only the cluster knows stays in front of what it was in front of.
pub(super) fn order(
    items: Vec<Value>,
    wanted: &HashMap<Key, usize>,
    before: &HashMap<Key, usize>,
    merge: Merge,
) -> Vec<Value> {
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in items {
        let key = find(&item, merge);
        let place = key.as_ref().and_then(|key| before.get(key)).copied();
        match key.as_ref().and_then(|key| wanted.get(key)) {
            Some(rank) => named.push((*rank, place, item)),
            None => others.push((place.unwrap_or(usize::MAX), place, item)),
        }
    }
    named.sort_by_key(|(rank, _, _)| *rank);
    others.sort_by_key(|(rank, _, _)| *rank);
    let mut merged = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, place, item) in named {
        while let Some((_, _, other)) =
            others.next_if(|(_, other, _)| matches!((other, place), (Some(other), Some(place)) if *other < place))
        {
            merged.push(other);
        }
        merged.push(item);
    }
    merged.extend(others.map(|(_, _, item)| item));
    merged
}
