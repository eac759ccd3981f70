//! Between etcd's words and ours. Pure.

use bytes::Bytes;
use etcd_client::ResponseHeader;

use crate::{Error, Event, EventKind, KeyValue, Range, Revision};

/// Where our keys live in etcd: `<prefix>/data<key>` for what users store, `<prefix>/meta/<name>` for our own needs.
#[derive(Debug, Clone)]
pub(crate) struct Keyspace {
    root: Vec<u8>,
    data: Vec<u8>,
}

impl Keyspace {
    pub(crate) fn new(prefix: &str) -> Self {
        let root = format!("{}/", prefix.trim_end_matches('/')).into_bytes();
        let data = [&root, &b"data"[..]].concat();
        Self { root, data }
    }

    /// Everything of ours starts with this.
    pub(crate) fn root(&self) -> &[u8] {
        &self.root
    }

    /// The etcd key of a user's key.
    pub(crate) fn data(&self, key: &[u8]) -> Vec<u8> {
        [&self.data, key].concat()
    }

    /// The etcd key of a number of ours.
    pub(crate) fn meta(&self, name: &str) -> Vec<u8> {
        [&self.root, &b"meta/"[..], name.as_bytes()].concat()
    }

    /// The first etcd key behind all those of users' keys with this prefix.
    pub(crate) fn data_end(&self, prefix: &[u8]) -> Vec<u8> {
        let mut end = self.data(prefix);
        while end.last() == Some(&0xff) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    }

    /// The first etcd key of a range.
    pub(crate) fn page_start(&self, range: &Range) -> Vec<u8> {
        if range.after.is_empty() || range.after < range.prefix {
            self.data(&range.prefix)
        } else {
            self.after(&range.after)
        }
    }

    /// The first etcd key behind a user's key.
    pub(crate) fn after(&self, key: &[u8]) -> Vec<u8> {
        [&self.data, key, &[0]].concat()
    }

    /// The user's key of an etcd key; `None` for keys of our own.
    fn user_key<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.data.as_slice())
    }

    pub(crate) fn key_value(&self, kv: etcd_client::KeyValue) -> KeyValue {
        let (create_revision, mod_revision) = (from_etcd(kv.create_revision()), from_etcd(kv.mod_revision()));
        let (key, value) = kv.into_key_value();
        let key = Bytes::from(key);
        let key = if key.starts_with(&self.data) { key.slice(self.data.len()..) } else { key };
        KeyValue { key, value: Bytes::from(value), create_revision, mod_revision }
    }

    /// The event when it is about a user's key that starts with `prefix`.
    pub(crate) fn event(&self, event: &etcd_client::Event, prefix: &[u8]) -> Option<Event> {
        let kv = event.kv()?;
        if !self.user_key(kv.key())?.starts_with(prefix) {
            return None;
        }
        let current = self.key_value(kv.clone());
        let previous = event.prev_kv().map(|previous| self.key_value(previous.clone()));
        Some(match event.event_type() {
            etcd_client::EventType::Put => Event { kind: EventKind::Put, current, previous },
            etcd_client::EventType::Delete => {
                let current = KeyValue { value: Bytes::new(), create_revision: 0, ..current };
                Event { kind: EventKind::Delete, current, previous }
            }
        })
    }
}

/// etcd counts revisions in signed numbers, and never uses the negative ones.
pub(crate) fn from_etcd(revision: i64) -> Revision {
    Revision::try_from(revision).unwrap_or(0)
}

pub(crate) fn to_etcd(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(crate) fn header_revision(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| from_etcd(header.revision()))
}

/// Maps an error of etcd. The numbers in [`Error::Compacted`] and [`Error::Future`] are left 0: etcd does not tell them.
pub(crate) fn error(err: &etcd_client::Error) -> Error {
    let text = err.to_string();
    // etcd gives these as gRPC codes that it uses for other things too, so the sentence decides.
    if text.contains("required revision has been compacted") {
        Error::Compacted { oldest: 0 }
    } else if text.contains("required revision is a future revision") {
        Error::Future { asked: 0, newest: 0 }
    } else if text.contains("database space exceeded") {
        Error::Full(format!("etcd: {text}"))
    } else {
        Error::Unavailable(format!("etcd: {text}"))
    }
}

/// Whether the same read may well succeed on another endpoint, or a moment later.
pub(crate) fn is_transient(err: &etcd_client::Error) -> bool {
    match err {
        // gRPC code 14, "unavailable": no connection, no leader, or an endpoint on its way down.
        etcd_client::Error::GRpcStatus(status) => i32::from(status.code()) == 14,
        etcd_client::Error::TransportError(_) => true,
        _other => false,
    }
}

/// Whether the request never left: no connection could be made, so even a write may be sent again.
pub(crate) fn was_not_sent(err: &etcd_client::Error) -> bool {
    match err {
        // tonic keeps the type of this cause to itself; its name in the debug output is all there is. The test with
        // a dead endpoint fails should that change.
        etcd_client::Error::GRpcStatus(status) => format!("{status:?}").contains("ConnectError("),
        _other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_apart_and_in_order() {
        let keyspace = Keyspace::new("/drover/");
        assert_eq!(keyspace.data(b"/registry/a"), b"/drover/data/registry/a");
        assert_eq!(keyspace.meta("tick"), b"/drover/meta/tick");
        assert_eq!(keyspace.root(), b"/drover/");
        assert_eq!(keyspace.user_key(b"/drover/meta/tick"), None);
    }

    #[test]
    fn the_end_of_a_prefix_lies_behind_all_its_keys() {
        let keyspace = Keyspace::new("/d");
        for (prefix, end) in
            [(&b"/a/"[..], &b"/d/data/a0"[..]), (b"k\xff\xff", b"/d/datal"), (b"", b"/d/datb"), (b"\xff", b"/d/datb")]
        {
            assert_eq!(keyspace.data_end(prefix), end);
            assert!(keyspace.data(&[prefix, &[0xff; 8]].concat()).as_slice() < end);
        }
    }

    #[test]
    fn a_page_starts_right_behind_the_last_key() {
        let keyspace = Keyspace::new("/d");
        let range = |after: &'static [u8]| Range {
            prefix: Bytes::from_static(b"/p/"),
            after: Bytes::from_static(after),
            ..Range::default()
        };
        assert_eq!(keyspace.page_start(&range(b"")), b"/d/data/p/");
        assert_eq!(keyspace.page_start(&range(b"/a")), b"/d/data/p/");
        assert_eq!(keyspace.page_start(&range(b"/p/x")), b"/d/data/p/x\0");
    }
}
