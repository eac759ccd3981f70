//! Transactions and compaction.

use etcd_client::{CompactionOptions, Compare, CompareOp, Txn, TxnOp, TxnOpResponse};

use super::convert::{Keyspace, header_revision, to_etcd};
use super::{Repeat, Shared, kv};
use crate::{Error, KeyValue, Operation, Revision, Transaction, TransactionResult};

impl Shared {
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        let answer = self.txn(build_txn(&self.keyspace, &transaction)).await?;
        let revision = header_revision(answer.header());
        if answer.succeeded() {
            return Ok(TransactionResult::Committed { revision });
        }
        let current = answer.op_responses().into_iter().map(|found| self.found(found)).collect();
        Ok(TransactionResult::Conflict { current, revision })
    }

    pub(super) async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let sent = self.request(Repeat::Read, |client| {
            let mut kv = kv(client);
            async move { kv.compact(to_etcd(revision), Some(CompactionOptions::new())).await }
        });
        match sent.await {
            Err(Error::Compacted { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, revision).await),
        }
    }

    fn found(&self, response: TxnOpResponse) -> Option<KeyValue> {
        match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().into_iter().next().map(|kv| self.keyspace.key_value(kv)),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        }
    }
}

fn build_txn(keyspace: &Keyspace, transaction: &Transaction) -> Txn {
    let mut operations: Vec<&Operation> = transaction.operations.iter().collect();
    // Events come in the order of the operations, and ours in key order.
    operations.sort_by_key(|operation| operation.key());
    let compares: Vec<_> = transaction
        .compares
        .iter()
        .map(|compare| {
            Compare::mod_revision(keyspace.data(&compare.key), CompareOp::Equal, to_etcd(compare.mod_revision))
        })
        .collect();
    let writes: Vec<_> = operations
        .into_iter()
        .map(|operation| match operation {
            Operation::Put { key, value } => TxnOp::put(keyspace.data(key), value.to_vec(), None),
            Operation::Delete { key } => TxnOp::delete(keyspace.data(key), None),
        })
        .collect();
    let reads: Vec<_> =
        transaction.compares.iter().map(|compare| TxnOp::get(keyspace.data(&compare.key), None)).collect();
    Txn::new().when(compares).and_then(writes).or_else(reads)
}
