//! Manifests as objects, each remembering where it stood.

use drover_api::object;
use serde_json::Value;

use super::{
    sources::{self, Source, SourceArgs},
    yaml,
};
use crate::failure::Failure;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The file, folder entry, address or `standard input`.
    pub(crate) source: String,
    /// Its place in the source, counted from 1.
    pub(crate) number: usize,
    /// The object itself.
    pub(crate) object: Value,
}

impl Document {
    /// Where the object stands, for error messages: `web.yaml, document 2 (Deployment web)`.
    pub(crate) fn place(&self) -> String {
        let (kind, name) = (object::str_at(&self.object, &["kind"]), object::name(&self.object));
        format!("{}, document {} ({kind} {name})", self.source, self.number)
    }
}

/// Reads every document that `-f` names.
///
/// # Errors
/// When a source cannot be read, is not YAML within the budgets, or holds something that is no object.
pub(crate) async fn read(args: &SourceArgs) -> anyhow::Result<Vec<Document>> {
    if args.filenames.is_empty() {
        return Err(Failure::new("nothing to read").help("pass -f FILE, -f FOLDER, -f URL or -f -").into());
    }
    let mut documents = Vec::new();
    for source in sources::read(args).await? {
        documents.extend(parse(&source)?);
    }
    if documents.is_empty() {
        return Err(Failure::new(format!("no objects in {}", args.filenames.join(", "))).into());
    }
    Ok(documents)
}

fn parse(source: &Source) -> Result<Vec<Document>, Failure> {
    let values = yaml::parse(&source.text).map_err(|error| {
        let number = document_at(&source.text, error.line);
        Failure::new(format!("{}, document {number}, {error}", source.name))
    })?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        for object in unfold(value) {
            let document = Document { source: source.name.clone(), number: index + 1, object };
            check(&document)?;
            documents.push(document);
        }
    }
    Ok(documents)
}

/// The objects of a `List`, or the object itself.
fn unfold(value: Value) -> Vec<Value> {
    let is_list =
        object::str_at(&value, &["kind"]).ends_with("List") && value.get("items").is_some_and(Value::is_array);
    match value {
        Value::Object(mut fields) if is_list => match fields.remove("items") {
            Some(Value::Array(items)) => items,
            Some(_) | None => Vec::new(),
        },
        other => vec![other],
    }
}

fn check(document: &Document) -> Result<(), Failure> {
    let place = format!("{}, document {}", document.source, document.number);
    if !document.object.is_object() {
        return Err(Failure::new(format!("{place}: not an object, which needs apiVersion, kind and metadata")));
    }
    for path in [&["apiVersion"][..], &["kind"], &["metadata", "name"]] {
        let found = object::at(&document.object, path);
        if found.is_some_and(|value| !value.is_string()) {
            return Err(Failure::new(format!("{place}: {}: must be a string", path.join("."))));
        }
        let generated =
            path == ["metadata", "name"] && object::at(&document.object, &["metadata", "generateName"]).is_some();
        if object::str_at(&document.object, path).is_empty() {
            let failure = Failure::new(format!("{place}: {}: Required value", path.join(".")));
            return Err(if generated {
                failure.help("apply needs a name; generateName only works with create")
            } else {
                failure
            });
        }
    }
    Ok(())
}

/// The number of the document in which a line stands, counting as the parser does: empty documents are none.
fn document_at(text: &str, line: u64) -> usize {
    let mut number = 1;
    let mut has_content = false;
    for (index, content) in text.lines().enumerate() {
        if u64::try_from(index).unwrap_or(u64::MAX) + 1 > line {
            break;
        }
        if content == "---" || content.starts_with("--- ") {
            number += usize::from(has_content);
            has_content = false;
        } else if !content.trim().is_empty() && !content.trim_start().starts_with('#') {
            has_content = true;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Document>, String> {
        let source = Source { name: "web.yaml".to_owned(), text: text.to_owned() };
        parse(&source).map_err(|failure| failure.to_string())
    }

    #[test]
    fn objects_know_where_they_stood_and_lists_are_unfolded() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n\
                    - {apiVersion: v1, kind: Secret, metadata: {name: b}}\n- {apiVersion: v1, kind: Pod, metadata: {name: c}}\n";
        let places: Vec<String> = parse_text(text).unwrap().iter().map(Document::place).collect();
        assert_eq!(
            places,
            ["web.yaml, document 1 (Namespace a)", "web.yaml, document 2 (Secret b)", "web.yaml, document 2 (Pod c)"]
        );
    }

    #[test]
    fn what_is_missing_is_named_with_file_document_and_field() {
        let cases = [
            ("a: 1\n", "web.yaml, document 1: apiVersion: Required value"),
            ("apiVersion: v1\nmetadata: {name: x}\n", "web.yaml, document 1: kind: Required value"),
            ("apiVersion: v1\nkind: Pod\n", "web.yaml, document 1: metadata.name: Required value"),
            ("apiVersion: 1\nkind: Pod\n", "web.yaml, document 1: apiVersion: must be a string"),
            ("- 1\n", "web.yaml, document 1: not an object, which needs apiVersion, kind and metadata"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_text(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_syntax_error_names_document_and_line() {
        let error = parse_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n---\n# note\nkind: Pod\nkind: Pod\n")
            .unwrap_err();
        assert!(error.starts_with("web.yaml, document 2, line 7: "), "{error}");
    }
}
