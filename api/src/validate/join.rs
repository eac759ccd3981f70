//! JoinTokens and NodeKeys.

use super::{cursor::At, report::Errors};
use crate::names;

/// Most nodes that one token lets in; each is kept in its status.
const USES_MAX: i64 = 1000;
/// A SHA-256 in hexadecimal digits.
const HASH_DIGITS: usize = 64;

/// Checks a JoinToken.
pub(super) fn token(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    hash(&spec.get("secretHash"), errors);
    let expires = spec.get("expirationTimestamp");
    if !expires.is_set() {
        errors.required(&expires, "a token must end");
    }
    let uses = spec.get("maxUses");
    errors.check_number(&uses, uses.number().unwrap_or(0), names::in_range(uses.number().unwrap_or(0), 1, USES_MAX));
    nodes(root, errors);
}

/// Checks what may not change in a JoinToken: a new secret is a new token.
pub(super) fn token_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    errors.immutable(&root.get("spec.secretHash"), &old.get("spec.secretHash"));
}

/// Checks the status of a JoinToken.
pub(super) fn token_status(root: &At<'_, '_>, errors: &mut Errors) {
    nodes(root, errors);
}

/// Checks a NodeKey.
pub(super) fn node_key(root: &At<'_, '_>, errors: &mut Errors) {
    hash(&root.get("spec.publicKeyHash"), errors);
}

/// Checks what may not change in a NodeKey: a node with another key is another node.
pub(super) fn node_key_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    errors.immutable(&root.get("spec.publicKeyHash"), &old.get("spec.publicKeyHash"));
}

fn nodes(root: &At<'_, '_>, errors: &mut Errors) {
    for node in root.get("status.nodes").items() {
        errors.check(&node.get("name"), names::dns_subdomain(node.get("name").text()));
        hash(&node.get("publicKeyHash"), errors);
    }
}

fn hash(at: &At<'_, '_>, errors: &mut Errors) {
    let text = at.text();
    if text.is_empty() {
        errors.required(at, "");
    } else if text.len() != HASH_DIGITS || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        errors.invalid(at, "must be a SHA-256 as 64 hexadecimal digits in lower case");
    }
}
