//! Continue tokens: sealed, so that a client can neither forge one nor use it for another query (A08).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use drover_api::status::ApiError;
use drover_store::{Backend, Compare, Error, Operation, Revision, Transaction, TransactionResult};
use ring::hmac;

use super::{environment::Environment, keys};

const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;

/// Seals and opens continue tokens.
#[derive(Debug)]
pub(crate) struct Seal {
    key: hmac::Key,
}

/// Where a paged list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The revision that every page shows.
    pub(crate) revision: Revision,
    /// The last key of the page before.
    pub(crate) after: String,
}

impl Seal {
    /// Reads the key that all servers on this store share; the first server makes it.
    pub(crate) async fn open(backend: &dyn Backend, environment: &dyn Environment) -> Result<Self, Error> {
        let mut fresh = [0; KEY_BYTES];
        environment.fill(&mut fresh);
        let value = Bytes::copy_from_slice(&fresh);
        let transaction = Transaction {
            compares: vec![Compare { key: keys::SEAL.into(), mod_revision: 0 }],
            operations: vec![Operation::Put { key: keys::SEAL.into(), value: value.clone() }],
        };
        let key = match backend.commit(transaction).await? {
            TransactionResult::Committed { .. } => value,
            TransactionResult::Conflict { current, .. } => {
                current.into_iter().flatten().next().map_or(value, |found| found.value)
            }
        };
        if crate::sealing::key_id(&key).is_some() {
            return Err(Error::Broken(format!("{} cannot be opened with this server's sealing keys", keys::SEAL)));
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// Seals a position for one query.
    pub(crate) fn seal(&self, query: &str, position: &Position) -> String {
        let body = format!("{}/{}", position.revision, position.after);
        let mut token = self.tag(query, &body).as_ref().to_vec();
        token.extend_from_slice(body.as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Opens a token of the same query.
    ///
    /// # Errors
    /// 400 for anything that this server (or one on the same store) did not seal for this query.
    pub(crate) fn unseal(&self, query: &str, token: &str) -> Result<Position, ApiError> {
        let refuse = || ApiError::bad_request("continue key is not valid: it was not issued for this request");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
        let (tag, body) = bytes.split_at_checked(TAG_BYTES).ok_or_else(refuse)?;
        let body = std::str::from_utf8(body).map_err(|_| refuse())?;
        hmac::verify(&self.key, &signed(query, body), tag).map_err(|_| refuse())?;
        let (revision, after) = body.split_once('/').ok_or_else(refuse)?;
        Ok(Position { revision: revision.parse().map_err(|_| refuse())?, after: after.to_owned() })
    }

    fn tag(&self, query: &str, body: &str) -> hmac::Tag {
        hmac::sign(&self.key, &signed(query, body))
    }
}

/// The query's length separates the two parts, so that no text of one can pass for the other.
fn signed(query: &str, body: &str) -> Vec<u8> {
    let query = if drover_api::mutants::active("A08-token-of-another-query") { "" } else { query };
    format!("{}:{query}{body}", query.len()).into_bytes()
}

/// Whether a key that nobody knows opens a token.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn unseal_any(token: &str) -> bool {
    let seal = Seal { key: hmac::Key::new(hmac::HMAC_SHA256, b"a key that no input holds") };
    seal.unseal("core/pods/?", token).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal { key: hmac::Key::new(hmac::HMAC_SHA256, &[7; KEY_BYTES]) }
    }

    #[test]
    fn a_token_opens_for_its_own_query_only() {
        let position = Position { revision: 42, after: "ns/na/me".to_owned() };
        let token = seal().seal("pods?app=x", &position);
        assert_eq!(seal().unseal("pods?app=x", &token), Ok(position));
        assert_eq!(seal().unseal("secrets?app=x", &token).map_err(|error| error.code), Err(400));
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let token = seal().seal("q", &Position { revision: 1, after: "a".to_owned() });
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert_eq!(seal().unseal("q", &forged).map_err(|error| error.code), Err(400), "bit {bit}");
        }
        for junk in ["", "AAAA", "%%%", &"A".repeat(100)] {
            assert_eq!(seal().unseal("q", junk).map_err(|error| error.code), Err(400), "{junk}");
        }
    }
}
