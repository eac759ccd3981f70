//! The format of a case.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

/// One file: cases that share a world.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What the cases have in common.
    pub group: String,
    /// Objects that the administrator makes first, in order.
    #[serde(default)]
    pub setup: Vec<Value>,
    /// The cases, played in order.
    pub cases: Vec<Case>,
}

/// One attack, or one spelling of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// `A01` to `A84`.
    pub id: String,
    /// What is tried.
    pub name: String,
    /// `anonymous`, `admin`, `user:NAME[:GROUP…]`, `node:NAME` or `account:NAMESPACE/NAME`.
    pub role: String,
    /// Objects that the administrator makes first.
    #[serde(default)]
    pub setup: Vec<Value>,
    /// The request.
    pub request: Request,
    /// The same request again with each of these in place of `$EACH`.
    #[serde(default)]
    pub each: Vec<Value>,
    /// The answer it must get.
    pub expect: Expect,
    /// What must hold afterwards.
    #[serde(default)]
    pub then: Vec<Check>,
    /// The server's memory may grow by so much while the case is played.
    pub grows_mib: Option<u64>,
}

/// A further request whose answer proves something.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Who asks; the administrator when left out.
    pub role: Option<String>,
    /// The request.
    pub request: Request,
    /// The answer it must get.
    pub expect: Expect,
}

/// A request. `raw` is sent as it is, everything else is left out then.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// `GET` when left out.
    pub method: Option<String>,
    /// Path and query, sent as written.
    pub path: Option<Content>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The body, `application/json` unless a header says otherwise.
    pub body: Option<Content>,
    /// The whole message; `$HOST` stands for the server's.
    pub raw: Option<Content>,
}

/// Text that may be too long to write down.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// As it is.
    Text(String),
    /// One part after another.
    Parts(Parts),
    /// Bytes.
    Base64 {
        /// Their encoding.
        base64: String,
    },
    /// A document.
    Json {
        /// It.
        json: Value,
    },
}

/// The parts of a long text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Repeat { repeat: String, count: usize },
}

/// What an answer must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Any of these codes; 0 is a connection that was closed without an answer.
    pub code: Vec<u16>,
    /// The machine reason of the `Status`.
    pub reason: Option<String>,
    /// Part of the body.
    pub says: Option<String>,
    /// What must not be anywhere in the answer.
    pub never_says: Vec<String>,
    /// A field path among the causes.
    pub field: Option<String>,
    /// Values in the body by JSON pointer.
    pub values: BTreeMap<String, Value>,
    /// A header that the answer must have.
    pub header: Option<String>,
    /// How many answers the connection gives to one raw message; 1 when left out.
    pub answers: Option<usize>,
}

impl Content {
    /// Writes it out, with `$EACH` replaced.
    ///
    /// # Errors
    /// For base64 that is none.
    pub fn bytes(&self, each: Option<&Value>) -> Result<Vec<u8>> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Parts(Parts { parts }) => parts.iter().map(Part::text).collect(),
            Self::Base64 { base64 } => return Ok(STANDARD.decode(base64)?),
            Self::Json { json } => put_into(json, each).to_string(),
        };
        let Some(each) = each else { return Ok(text.into_bytes()) };
        let word = each.as_str().map_or_else(|| each.to_string(), str::to_owned);
        Ok(text.replace("$EACH", &word).into_bytes())
    }
}

impl Part {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            // `$I` counts.
            Self::Repeat { repeat, count } if repeat.contains("$I") => {
                (0..*count).map(|index| repeat.replace("$I", &index.to_string())).collect()
            }
            Self::Repeat { repeat, count } => repeat.repeat(*count),
        }
    }
}

/// Replaces strings that are exactly `$EACH` by the value, whatever its type.
fn put_into(document: &Value, each: Option<&Value>) -> Value {
    match (document, each) {
        (Value::String(text), Some(each)) if text == "$EACH" => each.clone(),
        (Value::Array(items), _) => items.iter().map(|item| put_into(item, each)).collect(),
        (Value::Object(fields), _) => fields
            .iter()
            .map(|(key, value)| (key.clone(), put_into(value, each)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        (other, _) => other.clone(),
    }
}

/// Reads every group of cases.
///
/// # Errors
/// When a file is not as it should be, with its name.
pub fn groups() -> Result<Vec<Group>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks");
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let read = |path: &Path| -> Result<Group> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    paths.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}
