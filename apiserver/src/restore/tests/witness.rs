//! A store that is older than it was counts as restored.

use super::*;
use crate::{restore::witness::Witness, volatile::Volatile};
use tokio_util::sync::CancellationToken;

async fn noted(witness: &Witness, gate: &Arc<Gate>) {
    let ended = CancellationToken::new();
    ended.cancel();
    witness.clone().run(Arc::clone(gate), ended).await;
}

#[tokio::test]
async fn a_store_that_went_back_is_unconfirmed_and_reuses_no_revision() {
    let dir = tempfile::tempdir().expect("a directory");
    let witness = Witness::new(dir.path());
    let store: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
    let gate = Gate::open(Arc::clone(&store)).await.expect("memory");
    witness.check(&gate, "c", &Fixed::default()).await.expect("memory");
    let newest = put(&*gate, &[("ns/a", "1")]).await;
    noted(&witness, &gate).await;

    let again = Gate::open(store).await.expect("memory");
    witness.check(&again, "c", &Fixed::default()).await.expect("memory");
    assert_eq!(again.known().marker.restored, None, "the store as it was");

    let lost = Gate::open(Arc::new(Volatile::new(0, Vec::new()))).await.expect("memory");
    put(&*lost, &[("ns/old", "1")]).await;
    witness.check(&lost, "c", &Fixed::default()).await.expect("memory");
    let state = lost.known().marker.to_object().expect("restored");
    assert!(drover_api::restored::unconfirmed(&state).is_some(), "{state}");
    assert!(put(&*lost, &[("ns/b", "1")]).await > newest);
    let found = lost.get(b"/registry/core/configmaps/ns/old").await.expect("memory").expect("kept");
    assert!(found.mod_revision > newest);
}
