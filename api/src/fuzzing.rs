//! One entry a parser, for `make fuzz` and for the property tests that stand in for it in `make test`.
//!
//! Each takes any bytes, must not panic, and checks what holds for every input. Compiled for tests and with the feature
//! `fuzzing` only. The other crates have a module of the same form.

use serde_json::Value;

use crate::{
    audit, decode,
    decode::FieldValidation,
    defaults,
    kinds::{self, Kind},
    labels::{FieldSelector, LabelSelector},
    names, object, patch, protobuf,
    quantity::{self, Quantity},
    table, validate,
};

/// Takes any bytes and must not panic.
pub type Run = fn(&[u8]);

/// Every parser of this crate: its name (what `make fuzz TARGET=` takes, and the folder of its corpus) and what runs it.
pub const TARGETS: &[(&str, Run)] = &[
    ("object_json", object_json),
    ("object_protobuf", object_protobuf),
    ("patch", patch),
    ("label_selector", label_selector),
    ("field_selector", field_selector),
    ("quantity", quantity),
    ("name", name),
    ("audit_line", audit_line),
];

/// A body of any kind: decode, default, validate, print, encode, decode again.
fn object_json(bytes: &[u8]) {
    let (kind, body) = kind_and_rest(bytes);
    if let Ok(decoded) = decode::decode(kind, body, FieldValidation::Ignore) {
        whole(kind, decoded.object);
    }
    // Strict reading refuses more, and must not read differently.
    let (strict, lenient) =
        (decode::decode(kind, body, FieldValidation::Strict), decode::decode(kind, body, FieldValidation::Warn));
    if let (Ok(strict), Ok(lenient)) = (strict, lenient) {
        assert_eq!(strict.object, lenient.object);
    }
}

fn object_protobuf(bytes: &[u8]) {
    let (kind, body) = kind_and_rest(bytes);
    if let Ok(decoded) = protobuf::decode(kind, body) {
        whole(kind, decoded.object);
    }
}

/// What happens to an object that was decoded.
fn whole(kind: &'static Kind, mut object: Value) {
    defaults::apply(kind, &mut object);
    let once = object.clone();
    defaults::apply(kind, &mut object);
    assert_eq!(object, once, "defaulting twice changes something");
    let errors = validate::create(kind, &object);
    table::cells(kind, &object, 0);
    if errors.is_empty() {
        let bytes = object::to_bytes(&object);
        let again = decode::decode(kind, &bytes, FieldValidation::Strict);
        assert_eq!(again.map(|again| again.object), Ok(object), "a valid object is not read back");
    }
}

/// Two documents, separated by a zero byte: an object and what is to be done to it.
fn patch(bytes: &[u8]) {
    let (kind, rest) = kind_and_rest(bytes);
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let mut document = || serde_json::from_slice::<Value>(parts.next().unwrap_or_default()).ok();
    let (Some(object), Some(patch)) = (document(), document()) else { return };
    if let Ok(patched) = patch::json_patch(&object, &patch) {
        assert!(patched.to_string().len() <= patch::MAX_RESULT_BYTES + object.to_string().len(), "unbounded result");
    }
    let merged = patch::merge_patch(&object, &patch);
    assert_eq!(patch::merge_patch(&merged, &patch), merged, "RFC 7396 is idempotent");
    // A strategic merge is not idempotent for every directive; it must end, and be checked like any body.
    if let Ok(merged) = patch::strategic_merge(kind, &object, &patch) {
        _ = decode::check(kind, merged, FieldValidation::Ignore);
    }
}

fn label_selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        selector.matches(None);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        _ = LabelSelector::from_object(&value);
    }
}

fn field_selector(bytes: &[u8]) {
    let (kind, rest) = kind_and_rest(bytes);
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if let Ok(selector) = FieldSelector::parse(kind, text) {
        selector.matches(&Value::Null);
    }
}

fn quantity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(canonical) = quantity::canonical(text) {
        assert_eq!(quantity::canonical(&canonical).as_ref(), Ok(&canonical), "not a fixed point: {text:?}");
        let (read, again) = (Quantity::parse(text), Quantity::parse(&canonical));
        // Binary notation has no fractions: canonical form rounds up to whole units, as Kubernetes does.
        assert_eq!(read.map(|quantity| quantity.value()), again.map(|quantity| quantity.value()));
    }
}

fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let label = names::dns_label(text).is_empty();
    assert!(!label || names::dns_subdomain(text).is_empty(), "a label is a subdomain");
    let simple = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(!label || (text.len() <= 63 && text.bytes().all(simple)), "{text:?} is no label");
    for check in [names::qualified_name, names::label_value, names::env_var, names::config_key, names::path_segment] {
        let accepted = check(text).is_empty();
        assert!(!accepted || !text.chars().any(char::is_control), "{text:?} has a control character");
    }
}

fn audit_line(bytes: &[u8]) {
    let mut verifier = audit::Verifier::default();
    bytes.split(|byte| *byte == b'\n').for_each(|line| verifier.line(line));
    verifier.finish(None);
    audit::Chain::resume(bytes.split(|byte| *byte == b'\n'));
}

/// Lets the first byte choose the kind.
fn kind_and_rest(bytes: &[u8]) -> (&'static Kind, &[u8]) {
    let all = kinds::all();
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    (&all[usize::from(*first) % all.len()], rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::tests::any_json;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TARGETS.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, text: String) {
            for (_, run) in TARGETS {
                run(&bytes);
                run(text.as_bytes());
            }
        }

        #[test]
        fn no_document_makes_a_parser_panic(kind: u8, first in any_json(), second in any_json()) {
            let body = [&[kind], first.to_string().as_bytes(), &[0], second.to_string().as_bytes()].concat();
            for (_, run) in TARGETS {
                run(&body);
                run(&body[..1 + first.to_string().len()]);
            }
        }
    }
}
