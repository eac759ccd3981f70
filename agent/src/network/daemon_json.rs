//! Edits the engine's `daemon.json`: one entry under `runtimes`, everything else byte for byte. Pure.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{json, value::RawValue};

/// Why a configuration cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum DaemonJsonError {
    /// It is not a JSON object, or `runtimes` in it is not.
    #[error("the engine's configuration is not a valid JSON object")]
    Invalid(#[from] serde_json::Error),
}

/// The configuration with the runtime `name` leading to `program`. The same text when it says so already.
pub(super) fn with_runtime(text: &str, name: &str, program: &str) -> Result<String, DaemonJsonError> {
    let entry = json!({ "path": program }).to_string();
    edit(text, |runtimes| {
        let present = runtimes.0.iter().position(|(key, _)| key == name);
        let same =
            |index: usize| serde_json::from_str(runtimes.0[index].1.get()).ok() == Some(json!({ "path": program }));
        if present.is_some_and(same) {
            return Ok(false);
        }
        let value = RawValue::from_string(entry)?;
        match present {
            Some(index) => runtimes.0[index].1 = value,
            None => runtimes.0.push((name.to_owned(), value)),
        }
        Ok(true)
    })
}

/// The configuration without the runtime `name`. `runtimes` stays, empty if need be: the engine looks at what it holds
/// only when it is there ([`without_empty_runtimes`] is for afterwards).
pub(super) fn without_runtime(text: &str, name: &str) -> Result<String, DaemonJsonError> {
    edit(text, |runtimes| {
        let before = runtimes.0.len();
        runtimes.0.retain(|(key, _)| key != name);
        Ok(runtimes.0.len() != before)
    })
}

/// The configuration without an empty `runtimes`.
pub(super) fn without_empty_runtimes(text: &str) -> Result<String, DaemonJsonError> {
    let mut root: Ordered = if text.trim().is_empty() { Ordered(Vec::new()) } else { serde_json::from_str(text)? };
    let before = root.0.len();
    let is_empty = |value: &RawValue| serde_json::from_str::<Ordered>(value.get()).is_ok_and(|held| held.0.is_empty());
    root.0.retain(|(key, value)| key != "runtimes" || !is_empty(value));
    Ok(if root.0.len() == before { text.to_owned() } else { root.render("  ", "") + "\n" })
}

fn edit(
    text: &str,
    change: impl FnOnce(&mut Ordered) -> Result<bool, DaemonJsonError>,
) -> Result<String, DaemonJsonError> {
    let blank = text.trim().is_empty();
    let mut root: Ordered = if blank { Ordered(Vec::new()) } else { serde_json::from_str(text)? };
    let position = root.0.iter().position(|(key, _)| key == "runtimes");
    let mut runtimes = match position {
        Some(index) => serde_json::from_str(root.0[index].1.get())?,
        None => Ordered(Vec::new()),
    };
    if !change(&mut runtimes)? {
        return Ok(text.to_owned());
    }
    let value = RawValue::from_string(runtimes.render("    ", "  "))?;
    match position {
        Some(index) => root.0[index].1 = value,
        None => root.0.push(("runtimes".to_owned(), value)),
    }
    Ok(root.render("  ", "") + "\n")
}

/// A JSON object whose fields keep their order and their bytes.
struct Ordered(Vec<(String, Box<RawValue>)>);

impl Ordered {
    fn render(&self, indent: &str, closing: &str) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        let field = |(key, value): &(String, Box<RawValue>)| format!("{indent}{}: {}", json!(key), value.get());
        let fields: Vec<String> = self.0.iter().map(field).collect();
        format!("{{\n{}\n{closing}}}", fields.join(",\n"))
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("duplicate field {key}")));
                    }
                    fields.push((key, value));
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const PROGRAM: &str = "/usr/local/lib/drover/drover-runc";

    #[test]
    fn every_other_key_keeps_its_place_and_its_bytes() {
        let before = r#"{"mtu": 1400, "log-opts": {"max-size": "10m",   "max-file": "3"}, "runtimes": {"kata": {"path": "/k"}}, "debug":false}"#;
        let after = with_runtime(before, "drover", PROGRAM).unwrap();
        expect![[r#"
            {
              "mtu": 1400,
              "log-opts": {"max-size": "10m",   "max-file": "3"},
              "runtimes": {
                "kata": {"path": "/k"},
                "drover": {"path":"/usr/local/lib/drover/drover-runc"}
              },
              "debug": false
            }
        "#]]
        .assert_eq(&after);
        assert_eq!(with_runtime(&after, "drover", PROGRAM).unwrap(), after, "a second time changes nothing");
        let without = without_runtime(&after, "drover").unwrap();
        assert_eq!(without_empty_runtimes(&without).unwrap(), without, "others' runtimes stay");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&without), value(before));
    }

    #[test]
    fn a_missing_or_empty_file_gets_the_one_entry() {
        for before in ["", " \n", "{}"] {
            let after = with_runtime(before, "drover", PROGRAM).unwrap();
            expect![[r#"
                {
                  "runtimes": {
                    "drover": {"path":"/usr/local/lib/drover/drover-runc"}
                  }
                }
            "#]]
            .assert_eq(&after);
            let emptied = without_runtime(&after, "drover").unwrap();
            assert_eq!(emptied, "{\n  \"runtimes\": {}\n}\n", "the engine forgets only what it is shown to be gone");
            assert_eq!(without_empty_runtimes(&emptied).unwrap(), "{}\n");
        }
    }

    #[test]
    fn another_path_is_corrected() {
        let before = r#"{"runtimes":{"drover":{"path":"/old","runtimeArgs":["-x"]}}}"#;
        assert!(with_runtime(before, "drover", PROGRAM).unwrap().contains(PROGRAM));
        assert_eq!(without_runtime("{\"a\":1}", "drover").unwrap(), "{\"a\":1}");
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for broken in ["{", "[]", "null", "{\"runtimes\": []}", "{\"a\":1,\"a\":2}", "{} x", "{// comment\n}"] {
            with_runtime(broken, "drover", PROGRAM).expect_err(broken);
        }
    }
}
