//! What was written is read back, in pieces of any size; what was damaged in any way is refused.

use std::collections::BTreeMap;

use proptest::{collection::btree_map, prelude::*};

use super::*;

fn header() -> Header {
    Header {
        cluster: "c".to_owned(),
        revision: 42,
        taken_at: "2026-01-01T00:00:00Z".to_owned(),
        server_version: "0.0.0".to_owned(),
    }
}

fn write(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::begin(&header());
    for (key, value) in records {
        encoder.record(key, value, &mut bytes);
    }
    bytes.extend(encoder.finish());
    bytes
}

fn read(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.push(piece);
        while let Some(item) = decoder.next()? {
            items.push(item);
        }
    }
    decoder.finish()?;
    Ok(items)
}

fn some() -> BTreeMap<Vec<u8>, Vec<u8>> {
    [("/registry/core/pods/a/b", "{}"), ("/registry/core/pods/a/c", r#"{"x":1}"#), ("/registry/z", "")]
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .into()
}

fn records() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    btree_map(prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 0..60), 0..12)
}

#[test]
fn every_flipped_bit_and_every_cut_is_detected() {
    let good = write(&some());
    assert!(read(&mut Decoder::file(), &good, usize::MAX).is_ok());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&mut Decoder::file(), &bad, usize::MAX).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(read(&mut Decoder::file(), &good[..length], usize::MAX).is_err(), "cut to {length}");
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(read(&mut Decoder::file(), &longer, usize::MAX).is_err(), "something appended");
}

#[test]
fn a_file_of_something_else_and_one_of_the_future_say_so() {
    let read = |bytes: &[u8]| read(&mut Decoder::file(), bytes, usize::MAX).map(drop);
    assert_eq!(read(b"PK\x03\x04 something else"), Err(Error::Magic));
    assert_eq!(read(b"DROVER-BACKUP/2\n and so on"), Err(Error::Format));
    assert_eq!(read(b""), Err(Error::Truncated { records: 0 }));
    let mut endless = write(&some())[..MAGIC.len()].to_vec();
    endless.extend([b'H', 255, 255, 255, 255]);
    assert_eq!(read(&endless), Err(Error::Damaged("it has a frame of impossible length")));
}

#[test]
fn records_in_another_order_are_refused_even_with_a_matching_digest() {
    let (mut encoder, mut bytes) = Encoder::begin(&header());
    encoder.record(b"b", b"", &mut bytes);
    encoder.record(b"a", b"", &mut bytes);
    bytes.extend(encoder.finish());
    let refused = read(&mut Decoder::file(), &bytes, usize::MAX);
    assert_eq!(refused, Err(Error::Damaged("its keys are out of order")));
}

#[test]
fn a_server_may_begin_anew_and_a_file_may_not() {
    let good = write(&some());
    let cut = &good[..good.len() - 60];
    let (_, begun) = Encoder::begin(&header());
    let wire = [&begun, &Encoder::void(), good.as_slice()].concat();
    for piece in [1, 7, usize::MAX] {
        let items = read(&mut Decoder::live(), &wire, piece).expect("a whole file in the end");
        assert_eq!(items[1], Item::Void);
        assert_eq!(items[2..], read(&mut Decoder::file(), &good, usize::MAX).expect("a file"));
    }
    assert!(read(&mut Decoder::file(), &wire, usize::MAX).is_err());
    assert!(read(&mut Decoder::live(), cut, usize::MAX).is_err());
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(records in records(), piece in 1usize..100) {
        let items = read(&mut Decoder::file(), &write(&records), piece).expect("an undamaged file");
        let found: BTreeMap<Vec<u8>, Vec<u8>> = items.iter().filter_map(|item| match item {
            Item::Record(record) => Some((record.key.clone(), record.value.clone())),
            Item::Header(_) | Item::Void | Item::End(_) => None,
        }).collect();
        prop_assert_eq!(&found, &records);
        prop_assert_eq!(&items[0], &Item::Header(header()));
        let ended = matches!(items.last(), Some(Item::End(summary)) if summary.records == records.len() as u64);
        prop_assert!(ended);
        let mut chunk = Vec::new();
        records.iter().for_each(|(key, value)| push_record(&mut chunk, key, value));
        prop_assert_eq!(read_records(&chunk).expect("records").len(), records.len());
    }

    #[test]
    fn damage_of_any_shape_is_detected(
        records in records(),
        at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 1..40),
        removed in 0usize..40,
    ) {
        let good = write(&records);
        let start = at.index(good.len());
        let end = (start + removed).min(good.len());
        let mut bad = good.clone();
        bad.splice(start..end, junk);
        prop_assume!(bad != good);
        prop_assert!(read(&mut Decoder::file(), &bad, 64).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
        _ = read(&mut Decoder::live(), &[&MAGIC[..], &bytes].concat(), piece);
        _ = read(&mut Decoder::file(), &bytes, piece);
        _ = read_records(&bytes);
    }
}
