//! The few values of an object that selectors read: taken out of the stored JSON without building the rest of it.
//!
//! The whole text is read all the same, so that what passes here parses. Pure.

use std::fmt;

use drover_api::{kinds::Kind, labels::Fields};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What every kind offers besides its own fields.
const METADATA: &[&str] =
    &["metadata.name", "metadata.namespace", "metadata.labels", "metadata.uid", "metadata.deletionTimestamp"];

/// Values by path, in the order of the paths.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selectable(Vec<(&'static str, Value)>);

impl Fields for Selectable {
    fn field(&self, path: &str) -> Option<&Value> {
        let at = self.0.binary_search_by_key(&path, |(known, _)| known).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }
}

impl Selectable {
    /// Takes the values out of an object at hand.
    pub(super) fn of_value(kind: &Kind, value: &Value) -> Self {
        let found = paths(kind).filter_map(|path| Some((path, value.field(path)?.clone())));
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by_key(|(path, _)| *path);
        Self(found)
    }

    /// Takes the same values out of JSON.
    ///
    /// # Errors
    /// When `json` is not one JSON text.
    pub(super) fn of_json(kind: &Kind, json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let mut found = Self::default();
        let wanted = paths(kind).map(|path| (path, path)).collect();
        Pick { wanted, found: &mut found }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }

    /// Returns the string at a path, or `""`.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.field(path).and_then(Value::as_str).unwrap_or_default()
    }

    fn set(&mut self, path: &'static str, value: Option<Value>) {
        match (self.0.binary_search_by_key(&path, |(known, _)| known), value) {
            (Ok(at), Some(value)) => self.0[at].1 = value,
            (Ok(at), None) => drop(self.0.remove(at)),
            (Err(at), Some(value)) => self.0.insert(at, (path, value)),
            (Err(_), None) => {}
        }
    }
}

fn paths(kind: &Kind) -> impl Iterator<Item = &'static str> + use<'_> {
    METADATA.iter().chain(kind.field_selectors).copied()
}

/// A path, and what of it is still to be walked; nothing when the value is reached.
type Walk = (&'static str, &'static str);

/// Finds the values at the ends of the paths; without paths it reads and forgets. Unlike serde's `IgnoredAny` it looks at
/// numbers and strings as whoever keeps them does.
struct Pick<'f> {
    wanted: Vec<Walk>,
    found: &'f mut Selectable,
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.wanted.iter().find(|(_, rest)| rest.is_empty()) {
            Some((path, _)) => {
                self.found.set(path, Some(Value::deserialize(deserializer)?));
                Ok(())
            }
            None => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(wanted) = map.next_key_seed(Step(&self.wanted))? {
            // Of a member given twice the last one counts, as for every other reader.
            wanted.iter().for_each(|(path, _)| self.found.set(path, None));
            map.next_value_seed(Pick { wanted, found: self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Pick { wanted: Vec::new(), found: self.found })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads the name of a member; returns the paths that lead through it.
struct Step<'w>(&'w [Walk]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Vec<Walk>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Walk>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Step<'_> {
    type Value = Vec<Walk>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Vec<Walk>, E> {
        let behind = |(path, rest): &Walk| {
            if rest.as_bytes().first() != name.as_bytes().first() {
                // Nearly all differ here already.
                return None;
            }
            let rest = rest.strip_prefix(name)?;
            let rest = if rest.is_empty() { rest } else { rest.strip_prefix('.')? };
            Some((*path, rest))
        };
        Ok(self.0.iter().filter_map(behind).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::testing::kind;

    fn any_json() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["metadata", "name", "labels", "spec", "nodeName", "status", "phase", "x"]);
        let leaf =
            prop::sample::select(vec!["null", "true", "-1", "1.5", "1e999", "\"a\"", "\"\\ud800\"", "\"\\u00e4\""]);
        leaf.prop_map(str::to_owned).prop_recursive(4, 24, 5, move |inner| {
            let member = (name.clone(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
            let object = prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")));
            let list = prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(",")));
            prop_oneof![4 => object, 1 => list]
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_from_json_is_what_is_taken_from_its_value(text in any_json()) {
            let pods = kind("", "pods");
            let of_value = serde_json::from_str(&text).map(|value| Selectable::of_value(pods, &value));
            prop_assert_eq!(Selectable::of_json(pods, text.as_bytes()).ok(), of_value.ok());
        }
    }
}
