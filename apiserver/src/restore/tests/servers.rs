//! Several servers on one store: nobody writes into a restore, and whoever survives completes it.

use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::volatile::Volatile;

#[tokio::test]
async fn a_server_that_has_not_heard_of_a_restore_cannot_write_into_it() {
    let store: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
    let (here, there) = (Fixture::start(Arc::clone(&store)).await, Gate::open(store).await.expect("memory"));
    put(&*there, &[("ns/a", "old")]).await;
    let file = here.backup().await;
    put(&*there, &[("ns/a", "new")]).await;
    let mut stream = there.changes(ROOT.as_bytes(), there.revision().await.expect("memory")).await.expect("memory");
    here.stage(&file).await.expect("a good file");

    let write = || there.commit(Transaction { compares: Vec::new(), operations: vec![delete("ns/a")] });
    assert_eq!(write().await, Err(super::super::gate::closed()));
    let read = there.range(Range { prefix: ROOT.into(), ..Range::default() }).await;
    assert_eq!(read, Err(super::super::gate::closed()));

    super::super::finisher::finish(&here.gate, &Fixed::default()).await.expect("memory");
    let ended = loop {
        match stream.next().await.expect("an end with a reason") {
            Ok(changes) => {
                let keys = changes.events.iter().filter(|event| super::super::is_ours_to_back_up(&event.current.key));
                assert_eq!(keys.count(), 0, "something of a restore was passed on");
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, StoreError::Compacted { .. }), "{ended}");
    assert!(stream.next().await.is_none());
    assert_eq!(there.get(b"/registry/core/configmaps/ns/a").await.expect("open again").expect("restored").value, "old");
    assert!(write().await.is_ok());
}

fn delete(name: &str) -> Operation {
    Operation::Delete { key: format!("/registry/core/configmaps/{name}").into() }
}

#[tokio::test(start_paused = true)]
async fn a_restore_whose_server_died_is_completed_by_another() {
    let store: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
    let mortal = Mortal::new(Arc::clone(&store), false);
    let (here, there) = (Fixture::start(mortal.clone()).await, Fixture::start(store).await);
    let shutdown = CancellationToken::new();
    let finisher = super::super::finisher::run(there.gate.clone(), Arc::new(Fixed::default()), shutdown.clone());
    let finisher = tokio::spawn(finisher);
    put(&*here.gate, &[("ns/a", "old")]).await;
    let file = here.backup().await;
    put(&*here.gate, &[("ns/a", "new")]).await;
    here.stage(&file).await.expect("a good file");
    mortal.dies_after(0);
    let mut known = there.gate.known.subscribe();
    let completed = known.wait_for(|known| known.marker.restored.is_some());
    tokio::time::timeout(Duration::from_secs(60), completed).await.expect("taken over").expect("the gate lives");
    let found = there.gate.get(b"/registry/core/configmaps/ns/a").await.expect("open").expect("restored");
    assert_eq!(found.value, "old");
    shutdown.cancel();
    finisher.await.expect("no panic");
}
