//! What is in a backup, and what a restore leaves behind.

use serde_json::json;

use super::*;
use crate::{registry::testing::config, volatile::Volatile};
use drover_api::backup::{Decoder, Item};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_shows_one_revision_while_writes_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = Gate::open(open(dir.path())).await.expect("a store");
    let filler: Vec<(String, String)> = (0..350).map(|n| (format!("m/{n:04}"), "x".repeat(100))).collect();
    let filler: Vec<(&str, &str)> = filler.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    put(&*gate, &filler).await;
    put(&*gate, &[("a/first", "0"), ("z/last", "0")]).await;
    let writer = Arc::clone(&gate);
    let writing = tokio::spawn(async move {
        for n in 1.. {
            let n = format!("{n}");
            put(&*writer, &[("a/first", &n), ("z/last", &n)]).await;
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 10 {
        let file = backup(&gate).await;
        let values = values_of(&file);
        assert_eq!(values.len(), 352);
        let (first, last) = ("/registry/core/configmaps/a/first", "/registry/core/configmaps/z/last");
        assert_eq!(values[first], values[last], "the file shows two moments");
        seen.insert(values[first].clone());
    }
    writing.abort();
}

fn values_of(file: &[u8]) -> State {
    let mut decoder = Decoder::file();
    decoder.push(file);
    let mut values = State::new();
    while let Some(item) = decoder.next().expect("an undamaged file") {
        if let Item::Record(record) = item {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
            values.insert(text(record.key), text(record.value));
        }
    }
    decoder.finish().expect("a whole file");
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_cluster_is_as_it_was_and_what_was_read_before_is_expired() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::start(open(dir.path())).await;
    let server = &fixture.server;
    for name in ["changed", "deleted", "kept"] {
        assert_eq!(server.post(CONFIGS, &config(name, "old")).await.code, 201);
    }
    let file = fixture.backup().await;
    let before = state(&*fixture.gate).await;
    server.put(&format!("{CONFIGS}/changed"), &config("changed", "new")).await;
    server.delete(&format!("{CONFIGS}/deleted"), &json!(null)).await;
    let newest = server.post(CONFIGS, &config("later", "new")).await.version();
    let page = server.get(&format!("{CONFIGS}?limit=1")).await;
    let token = page.body["metadata"]["continue"].as_str().expect("more to come").to_owned();
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true&resourceVersion={newest}")).await;

    fixture.restore(&file).await;
    assert_eq!(state(&*fixture.gate).await, before);
    assert_eq!(watch.told().await, "ERROR 410 Expired");
    let list = server.get(CONFIGS).await;
    assert_eq!(list.names(), ["changed", "deleted", "kept"]);
    assert!(list.version() > newest, "revisions go on");
    for expired in [
        format!("{CONFIGS}?continue={token}"),
        format!("{CONFIGS}?resourceVersion={newest}&resourceVersionMatch=Exact"),
    ] {
        assert_eq!(server.get(&expired).await.code, 410, "{expired}");
    }
    let mut late = server.watch(&format!("{CONFIGS}?watch=true&resourceVersion={newest}")).await;
    assert_eq!(late.told().await, "ERROR 410 Expired");
    let mut fresh = server.watch(&format!("{CONFIGS}?watch=true&resourceVersion={}", list.version())).await;
    server.put(&format!("{CONFIGS}/kept"), &config("kept", "newest")).await;
    assert_eq!(fresh.told().await, "MODIFIED kept newest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_history_of_before_the_restore_stays_expired() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let fixture = Fixture::start(store.clone()).await;
    fixture.server.post(CONFIGS, &config("a", "old")).await;
    let file = fixture.backup().await;
    let newest = fixture.server.put(&format!("{CONFIGS}/a"), &config("a", "new")).await.version();
    fixture.restore(&file).await;
    drop(fixture);
    let second = Fixture::start(store).await;
    assert_eq!(second.server.get(&format!("{CONFIGS}/a")).await.body["data"]["v"], "old");
    let mut watch = second.server.watch(&format!("{CONFIGS}?watch=true&resourceVersion={newest}")).await;
    assert_eq!(watch.told().await, "ERROR 410 Expired");
}

#[tokio::test]
async fn a_new_store_takes_the_file_of_a_lost_one_and_reuses_no_revision_of_it() {
    let lost = Fixture::start(Arc::new(Volatile::new(1, Vec::new()))).await;
    for n in 0..50 {
        lost.server.post(CONFIGS, &config(&format!("c{n}"), "old")).await;
    }
    let file = lost.backup().await;
    let newest = lost.server.put(&format!("{CONFIGS}/c1"), &config("c1", "new")).await.version();

    let fresh = Fixture::start(Arc::new(Volatile::new(0, Vec::new()))).await;
    fresh.restore(&file).await;
    let list = fresh.server.get(CONFIGS).await;
    assert_eq!(list.names().len(), 50);
    let version = list.version();
    assert!(version > newest, "{version} was {newest} before");
    let mut stale = list.body["items"][3].clone();
    stale["metadata"]["resourceVersion"] = newest.to_string().into();
    stale["data"]["v"] = "stale".into();
    let path = format!("{CONFIGS}/{}", stale["metadata"]["name"].as_str().expect("a name"));
    assert_eq!(fresh.server.put(&path, &stale).await.code, 409, "a version of the lost store");
    let mut current = list.body["items"][3].clone();
    current["data"]["v"] = "next".into();
    let written = fresh.server.put(&path, &current).await;
    assert_eq!(written.code, 200);
    assert!(written.version() > version);
}

#[tokio::test]
async fn an_upload_that_is_damaged_anywhere_changes_nothing() {
    let fixture = Fixture::start(Arc::new(Volatile::new(1, Vec::new()))).await;
    fixture.server.post(CONFIGS, &config("a", "old")).await;
    let file = fixture.backup().await;
    fixture.server.put(&format!("{CONFIGS}/a"), &config("a", "new")).await;
    let before = state(&*fixture.gate).await;
    for byte in (0..file.len()).step_by(97).chain([file.len() - 1]) {
        let mut damaged = file.clone();
        damaged[byte] ^= 1;
        assert!(fixture.stage(&damaged).await.is_err(), "byte {byte}");
        assert!(fixture.stage(&file[..byte]).await.is_err(), "cut at {byte}");
        assert_eq!(state(&*fixture.gate).await, before);
    }
    let staged = Range { prefix: super::super::STAGING.into(), ..Range::default() };
    assert!(fixture.gate.inner.range(staged).await.expect("memory").items.is_empty(), "nothing is left staged");
    fixture.restore(&file).await;
    assert_eq!(fixture.server.get(&format!("{CONFIGS}/a")).await.body["data"]["v"], "old");
}
