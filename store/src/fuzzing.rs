//! One entry a parser of this crate; see `drover_api::fuzzing` for the rules. This crate does not know that one, so the
//! entries are plain functions.

use crate::embedded::decode_record;

/// A version record: a file that was changed is noticed, never believed.
pub fn record(bytes: &[u8]) {
    let (key, rest) = bytes.split_at(bytes.len() / 4);
    decode_record(key, 7, rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>) {
            super::record(&bytes);
        }
    }
}
