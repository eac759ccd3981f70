//! Watches of single objects, shared by the pods that use them and ended with the last.
//!
//! A node may read only objects that its pods name, one by one: that is all the Node authorizer allows.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::source::Informer;

/// The watches of one kind.
pub(super) struct Watches<K> {
    open: Box<Open<K>>,
    live: Mutex<HashMap<Key, Weak<Watched<K>>>>,
}

type Open<K> = dyn Fn(&str, &str, CancellationToken) -> Informer<K> + Send + Sync;
/// Namespace and name.
type Key = (String, String);

/// One watched object; the watch ends with the last clone of the `Arc` around it.
#[derive(Debug)]
pub(super) struct Watched<K> {
    pub informer: Informer<K>,
    _guard: DropGuard,
}

impl<K> Watches<K> {
    pub(super) fn new(open: impl Fn(&str, &str, CancellationToken) -> Informer<K> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), live: Mutex::new(HashMap::new()) }
    }

    /// Returns the watch of an object, begun if there is none.
    pub(super) fn acquire(&self, namespace: &str, name: &str) -> Arc<Watched<K>> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, watched| watched.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(watched) = live.get(&key).and_then(Weak::upgrade) {
            return watched;
        }
        let token = CancellationToken::new();
        let informer = (self.open)(namespace, name, token.clone());
        let watched = Arc::new(Watched { informer, _guard: token.drop_guard() });
        live.insert(key, Arc::downgrade(&watched));
        watched
    }
}

impl<K> fmt::Debug for Watches<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watches")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn a_watch_is_shared_while_it_is_used_and_ended_after() {
        let opened = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&opened);
        let watches: Watches<ConfigMap> = Watches::new(move |namespace, name, token| {
            noted.lock().unwrap().push((format!("{namespace}/{name}"), token));
            Informer::default()
        });
        let (first, second) = (watches.acquire("ns", "a"), watches.acquire("ns", "a"));
        let other = watches.acquire("ns", "b");
        let ended = |index: usize| opened.lock().unwrap()[index].1.is_cancelled();
        assert_eq!(opened.lock().unwrap().len(), 2);
        drop(first);
        assert!(!ended(0));
        drop(second);
        assert!(ended(0) && !ended(1));
        drop(watches.acquire("ns", "a"));
        assert_eq!(opened.lock().unwrap().len(), 3, "begun anew");
        drop(other);
    }
}
