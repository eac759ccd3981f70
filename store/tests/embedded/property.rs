//! Random transactions, compactions and restarts against the model.

use bytes::Bytes;
use drover_store::embedded::SimulatedDisk;
use drover_store::{Backend, Compare, Operation, Range, Transaction};
use proptest::prelude::*;

use crate::model::{Model, open};

#[derive(Debug, Clone)]
enum Action {
    /// Writes to keys, and compares: of a key, against its present revision or a stale one.
    Commit {
        writes: Vec<(u8, Option<Vec<u8>>)>,
        compares: Vec<(u8, bool)>,
    },
    /// Compacts so far back from the newest revision.
    Compact {
        back: u64,
    },
    Reopen,
    /// Reads a page, so far back, after a key.
    Page {
        back: u64,
        after: u8,
        limit: usize,
    },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..20));
    let writes = proptest::collection::vec((0..12_u8, value), 0..4);
    let compares = proptest::collection::vec((0..12_u8, proptest::bool::weighted(0.8)), 0..3);
    let action = prop_oneof![
        12 => (writes, compares).prop_map(|(writes, compares)| Action::Commit { writes, compares }),
        2 => (0..8_u64).prop_map(|back| Action::Compact { back }),
        1 => Just(Action::Reopen),
        4 => (0..12_u64, 0..14_u8, 0..5_usize).prop_map(|(back, after, limit)| Action::Page { back, after, limit }),
    ];
    proptest::collection::vec(action, 1..60)
}

/// Keys that are prefixes of each other and hold zero and 0xff bytes.
fn key(n: u8) -> Bytes {
    let keys: [&'static [u8]; 12] =
        [b"a", b"a\0", b"a\0\0", b"a\xff", b"b", b"b/1", b"b/10", b"b/2", b"b\0", b"\0", b"\xff", b"\xff\xff"];
    Bytes::from_static(keys[usize::from(n) % keys.len()])
}

fn transaction(model: &Model, writes: &[(u8, Option<Vec<u8>>)], compares: &[(u8, bool)]) -> Transaction {
    let mut seen = std::collections::BTreeSet::new();
    let operations = writes.iter().filter(|(n, _)| seen.insert(*n)).map(|(n, value)| match value {
        Some(value) => Operation::Put { key: key(*n), value: Bytes::from(value.clone()) },
        None => Operation::Delete { key: key(*n) },
    });
    let compares = compares.iter().map(|(n, fresh)| {
        let mod_revision = model.keys().get(&key(*n)).map_or(0, |kv| kv.mod_revision);
        Compare { key: key(*n), mod_revision: if *fresh { mod_revision } else { mod_revision + 1 } }
    });
    Transaction { compares: compares.collect(), operations: operations.collect() }
}

async fn follow(actions: Vec<Action>) {
    let disk = SimulatedDisk::default();
    let mut store = open(&disk).unwrap();
    let mut model = Model::default();
    for action in actions {
        match action {
            Action::Commit { writes, compares } => {
                let transaction = transaction(&model, &writes, &compares);
                assert_eq!(store.commit(transaction.clone()).await.unwrap(), model.commit(&transaction));
            }
            Action::Compact { back } => {
                let revision = model.revision().saturating_sub(back);
                store.compact(revision).await.unwrap();
                model.compact(revision);
            }
            Action::Reopen => {
                store.close();
                store = open(&disk).unwrap();
            }
            Action::Page { back, after, limit } => {
                let at = model.revision().saturating_sub(back).max(model.compacted);
                check_page(&store, &model, at, key(after), limit).await;
            }
        }
    }
    model.check(&store).await;
}

async fn check_page(store: &drover_store::Embedded, model: &Model, at: u64, after: Bytes, limit: usize) {
    let range = Range { prefix: Bytes::new(), after: after.clone(), limit, at: Some(at) };
    let page = store.range(range).await.unwrap();
    let all: Vec<_> = model.states[&at].values().filter(|kv| kv.key > after).cloned().collect();
    let cut = if limit == 0 { all.len() } else { limit.min(all.len()) };
    assert_eq!(page.items, all[..cut]);
    assert_eq!(page.more, cut < all.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_store_is_its_model(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(actions));
    }
}
