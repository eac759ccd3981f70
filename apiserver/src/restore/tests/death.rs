//! A restore whose server dies at any write: the next start has the old state or the restored one, never a mixture.

use super::*;
use crate::volatile::Volatile;

/// Makes a store that has gone on since its backup, big enough for several transactions.
async fn prepared() -> (Arc<dyn Backend>, Vec<u8>, State, State) {
    let store: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
    let gate = Gate::open(Arc::clone(&store)).await.expect("memory");
    let names: Vec<String> = (0..200).map(|n| format!("ns/{n:04}")).collect();
    for name in &names {
        put(&*gate, &[(name, "old")]).await;
    }
    let (file, restored) = (backup(&gate).await, state(&*gate).await);
    for (n, name) in names.iter().enumerate() {
        let key = format!("/registry/core/configmaps/{name}").into();
        match n % 3 {
            0 => put(&*gate, &[(name, "new")]).await,
            1 => commit(&*gate, vec![Operation::Delete { key }]).await,
            _ => put(&*gate, &[(&format!("{name}-later"), "new")]).await,
        };
    }
    let newer = state(&*gate).await;
    (store, file, newer, restored)
}

/// Restores on a server that dies after `commits` commits; `false` when it came to its end before.
async fn restore_and_die(store: &Arc<dyn Backend>, file: &[u8], commits: i64, last_one_happens: bool) -> bool {
    let mortal = Mortal::new(Arc::clone(store), last_one_happens);
    let fixture = Fixture::start(mortal.clone()).await;
    mortal.dies_after(commits);
    let staged = fixture.stage(file).await;
    let died = match staged {
        Ok(()) => super::super::finisher::finish(&fixture.gate, &Fixed::default()).await.is_err(),
        Err(_) => true,
    };
    // The last write of all is the removal of what was staged, which may fail without harm.
    died || mortal.commits_left.load(Ordering::SeqCst) == 0
}

#[tokio::test]
async fn the_next_start_has_one_state_or_the_other() {
    for last_one_happens in [false, true] {
        let (mut old, mut new) = (0, 0);
        for commits in 1.. {
            let (store, file, newer, restored) = prepared().await;
            let died = restore_and_die(&store, &file, commits, last_one_happens).await;
            let gate = Gate::open(Arc::clone(&store)).await.expect("memory");
            let begun = gate.known().is_closed();
            super::super::finisher::finish(&gate, &Fixed::default()).await.expect("memory");
            let mut found = state(&*gate).await;
            // What a start makes by itself.
            found.retain(|key, _| key.starts_with("/registry/core/configmaps/"));
            if found == newer {
                assert!(!begun, "after {commits} commits");
                old += 1;
            } else {
                assert!(found == restored, "a mixture after {commits} commits, answer lost: {last_one_happens}");
                new += 1;
            }
            // Whatever happened, the cluster takes writes and another restore.
            put(&*gate, &[("ns/after", "x")]).await;
            let again = Fixture::start(store).await;
            again.restore(&file).await;
            let mut found = state(&*again.gate).await;
            found.retain(|key, _| key.starts_with("/registry/core/configmaps/"));
            assert!(found == restored, "restored again after {commits} commits");
            if !died {
                break;
            }
        }
        assert!(old > 1 && new > 3, "deaths before the first object and after it: {old}, {new}");
    }
}
