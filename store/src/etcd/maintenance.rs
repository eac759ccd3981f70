//! Compaction of the shared etcd: the servers on it agree by compare-and-swap who does it, and never stop trying.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::convert::{from_etcd, header_revision, to_etcd};
use crate::{Error, Retention, Revision, State, plan_compaction};

/// Holds the last revision that a server has set out to compact at, as decimal text.
const COMPACTION_KEY: &str = "compaction";

/// Looks once an interval, for ever. The caller ends it by dropping the task.
pub(super) async fn run(shared: Arc<Shared>, retention: Retention) {
    let mut ticks = interval(retention.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and at a start there are better things to do.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let outcome = round(&shared, &retention).await;
        let mut health = shared.health();
        match outcome {
            Ok(compacted) => {
                health.maintenance_failures = 0;
                health.maintenance_error = None;
                health.state = State::Serving;
                if let Some(revision) = compacted {
                    health.compactions += 1;
                    health.compacted = revision;
                }
            }
            Err(error) => {
                health.maintenance_failures += 1;
                tracing::warn!(%error, failures = health.maintenance_failures, "compaction of etcd failed, will be tried again");
                health.maintenance_error = Some(error.to_string());
                if matches!(error, Error::Full(_)) {
                    health.state = State::Full;
                }
            }
        }
    }
}

/// One look. Returns the revision when this server compacted.
pub(super) async fn round(shared: &Shared, retention: &Retention) -> Result<Option<Revision>, Error> {
    let key = shared.keyspace.meta(COMPACTION_KEY);
    let found = shared.read(&key, GetOptions::new()).await?;
    let newest = header_revision(found.header());
    let last = found.kvs().first();
    let claimed_at = last.map_or(0, |kv| from_etcd(kv.mod_revision()));
    let compacted = last.and_then(|kv| kv.value_str().ok()?.parse().ok()).unwrap_or(0);
    let Some(revision) = plan_compaction(retention, newest, compacted) else { return Ok(None) };
    match claim(shared, &key, claimed_at, revision).await {
        Ok(false) => Ok(None),
        Ok(true) => {
            shared.compact(revision).await?;
            Ok(Some(revision))
        }
        // A full etcd refuses the claim, and is in need of the compaction more than ever.
        Err(full @ Error::Full(_)) => shared.compact(revision).await.and(Err(full)),
        Err(error) => Err(error),
    }
}

/// Takes this round's compaction, unless another server was faster.
async fn claim(shared: &Shared, key: &[u8], claimed_at: Revision, revision: Revision) -> Result<bool, Error> {
    let txn = Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, to_etcd(claimed_at))])
        .and_then([TxnOp::put(key, revision.to_string(), None)]);
    Ok(shared.txn(txn).await?.succeeded())
}
