//! `-o`.

use std::str::FromStr;

use serde::Serialize as _;
use serde_json::Value;

use crate::{input::to_yaml, jsonpath::Template};

/// How objects are shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Format {
    /// The server's columns.
    #[default]
    Table,
    /// All of the server's columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `pod/web`.
    Name,
    /// What a template picks.
    JsonPath(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Format::Table),
            "wide" => Ok(Format::Wide),
            "yaml" => Ok(Format::Yaml),
            "json" => Ok(Format::Json),
            "name" => Ok(Format::Name),
            _ => match text.strip_prefix("jsonpath=") {
                Some(template) => Template::parse(template).map(Format::JsonPath).map_err(|error| error.to_string()),
                None => Err("expected wide, yaml, json, name or jsonpath=TEMPLATE".to_owned()),
            },
        }
    }
}

impl Format {
    /// Spells a document. Tables and names are not spelled here.
    pub(crate) fn render(&self, document: &Value) -> String {
        match self {
            Format::Json => to_json(document),
            Format::JsonPath(template) => template.render(document),
            Format::Yaml | Format::Table | Format::Wide | Format::Name => to_yaml(document),
        }
    }
}

/// JSON as kubectl indents it, with four spaces.
fn to_json(document: &Value) -> String {
    let mut bytes = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indent);
    if document.serialize(&mut serializer).is_err() {
        return document.to_string();
    }
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_named_as_in_kubectl() {
        assert_eq!("wide".parse(), Ok(Format::Wide));
        assert_eq!("jsonpath={.kind}".parse::<Format>().unwrap().render(&json!({"kind": "Pod"})), "Pod");
        assert_eq!("yml".parse::<Format>().unwrap_err(), "expected wide, yaml, json, name or jsonpath=TEMPLATE");
        assert_eq!("jsonpath={.a".parse::<Format>().unwrap_err(), "jsonpath: '{' without '}'");
    }

    #[test]
    fn documents_are_indented_as_kubectl_does() {
        let document = json!({"kind": "Pod", "list": [{"a": 1}]});
        assert_eq!(Format::Yaml.render(&document), "kind: Pod\nlist:\n- a: 1\n");
        assert_eq!(
            Format::Json.render(&document),
            "{\n    \"kind\": \"Pod\",\n    \"list\": [\n        {\n            \"a\": 1\n        }\n    ]\n}\n"
        );
    }
}
