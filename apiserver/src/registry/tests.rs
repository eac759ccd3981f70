//! The registry on the embedded store: across restarts, and with every error of the store.

use std::sync::Arc;

use drover_store::{Embedded, Error, embedded};
use serde_json::json;

use super::{
    from_store,
    testing::{Server, config},
};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

fn open(dir: &std::path::Path) -> Arc<Embedded> {
    Embedded::open(dir, embedded::Options { reserve_bytes: 0, ..embedded::Options::default() })
        .expect("a fresh directory")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_tokens_and_watches_outlive_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let first = Server::start_on(store.clone()).await;
    for name in ["a", "b", "c"] {
        assert_eq!(first.post(CONFIGS, &config(name, "1")).await.code, 201);
    }
    let page = first.get(&format!("{CONFIGS}?limit=1")).await;
    let changed = first.put(&format!("{CONFIGS}/a"), &config("a", "2")).await;
    first.delete(&format!("{CONFIGS}/c"), &json!(null)).await;
    drop(first);
    // The second server replays recent history, so that nobody has to list again.
    let second = Server::start_on(store).await;
    assert_eq!(second.get(&format!("{CONFIGS}/a")).await.body, changed.body);
    let token = page.body["metadata"]["continue"].as_str().expect("more to come");
    let rest = second.get(&format!("{CONFIGS}?continue={token}")).await;
    assert_eq!((rest.names(), rest.version()), (vec!["b", "c"], page.version()));
    let mut watch = second.watch(&format!("{CONFIGS}?watch=true&resourceVersion={}", page.version())).await;
    assert_eq!(watch.told().await, "MODIFIED a 2");
    assert_eq!(watch.told().await, "DELETED c 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_the_ring_has_forgotten_is_read_from_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start_on(open(dir.path())).await;
    let old = server.post(CONFIGS, &config("a", "1")).await;
    server.put(&format!("{CONFIGS}/a"), &config("a", "2")).await;
    let configs = super::testing::kind("", "configmaps");
    let (_, cache) = server.registry.kind_cache(configs).expect("cached");
    cache.forget_history();
    let exact = server.get(&format!("{CONFIGS}?resourceVersion={}&resourceVersionMatch=Exact", old.version())).await;
    assert_eq!(exact.body["items"][0]["data"]["v"], "1");
}

#[test]
fn every_error_of_the_store_has_one_answer() {
    let answer = |error: Error| {
        let error = from_store(&error);
        (error.code, error.reason)
    };
    assert_eq!(answer(Error::Compacted { oldest: 1 }), (410, "Expired"));
    assert_eq!(answer(Error::Future { asked: 2, newest: 1 }), (504, "Timeout"));
    assert_eq!(answer(Error::Full(String::new())), (507, "InsufficientStorage"));
    assert_eq!(answer(Error::Unavailable(String::new())), (503, "ServiceUnavailable"));
    assert_eq!(answer(Error::Locked(String::new())), (503, "ServiceUnavailable"));
    assert_eq!(answer(Error::Broken("path /secret".to_owned())), (503, "ServiceUnavailable"));
    assert!(!from_store(&Error::Broken("path /secret".to_owned())).message.contains("/secret"));
}
