//! One entry a parser of this crate; see `drover_api::fuzzing` for the rules.

use std::sync::OnceLock;

use drover_api::kinds::{self, Kind};
use http::Method;
use jiff::Timestamp;

use crate::{
    authz::Attributes,
    cache::Object,
    pki::identity::Facts,
    registry::{parse_revision, unseal_any},
    request::RequestInfo,
    sealing::{self, Key, Keyring},
    streams::Decoder,
    tokens::verify_any,
};

/// Takes any bytes and must not panic.
pub type Run = fn(&[u8]);

/// Every parser of this crate that faces the network or the disk.
pub const TARGETS: &[(&str, Run)] = &[
    ("request_line", request_line),
    ("continue_token", continue_token),
    ("resource_version", resource_version),
    ("bearer_token", bearer_token),
    ("certificate", certificate),
    ("stream_frames", stream_frames),
    ("stored_object", stored_object),
    ("sealed_value", sealed_value),
    ("sealing_keys", sealing_keys),
];

/// A path and a query, separated by `?`. Whatever is accepted must be canonical: reading it again changes nothing.
fn request_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let Ok(info) = RequestInfo::parse(&method, path, query) else { continue };
        Attributes::of(&info);
        assert!(!info.path.contains("//") && !info.path.contains("/../") && !info.path.chars().any(char::is_control));
        for part in [&info.resource, &info.name, &info.namespace, &info.subresource] {
            assert!(!part.contains('/') && part.as_str() != ".." && part.as_str() != ".", "{info:?}");
        }
    }
}

/// Nobody can make a token, so none opens.
fn continue_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(!unseal_any(text), "a forged continue token was accepted");
}

fn resource_version(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(Some(revision)) = parse_revision(text) {
        assert_eq!(parse_revision(&revision.to_string()).ok(), Some(Some(revision)));
    }
}

/// Nobody but the server can sign, so none is accepted.
fn bearer_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(!verify_any(text), "a forged token was accepted");
}

fn certificate(bytes: &[u8]) {
    if let Some(facts) = Facts::read(bytes) {
        assert!(!facts.common_name.is_empty() && !facts.common_name.chars().any(char::is_control));
    }
}

/// The first byte says into how many pieces the rest is cut: the frames must not depend on it.
fn stream_frames(bytes: &[u8]) {
    let Some((pieces, rest)) = bytes.split_first() else { return };
    let read = |size: usize| {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in rest.chunks(size.max(1)) {
            decoder.push(piece);
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
        }
        (frames, false)
    };
    assert_eq!(read(usize::from(*pieces)), read(rest.len()));
}

fn stored_object(bytes: &[u8]) {
    let kind: &'static Kind = &kinds::all()[bytes.len() % kinds::all().len()];
    if let Ok(object) = Object::decode(kind, 7, bytes) {
        assert_eq!(object.at_revision(1234).at_revision(7), object);
        object.to_value();
    }
}

fn sealed_value(bytes: &[u8]) {
    static RING: OnceLock<Keyring> = OnceLock::new();
    let ring = RING.get_or_init(|| {
        let mut ring = Keyring::default();
        ring.add(Key::new([7; 32], Timestamp::UNIX_EPOCH));
        ring
    });
    assert!(sealing::open(ring, b"name", bytes).is_err(), "a forged value was opened");
}

fn sealing_keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ring) = Keyring::parse(text) {
        assert_eq!(Keyring::parse(&ring.render()), Ok(ring));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(
            bytes: Vec<u8>, text: String, path in "(/[a-z0-9.%;]{0,6}){0,7}(\\?[a-zA-Z&=%0-9]{0,12})?",
        ) {
            for (_, run) in TARGETS {
                run(&bytes);
                run(text.as_bytes());
                run(path.as_bytes());
            }
        }
    }
}
