//! S4 and S5: a watch is the exact history, and replaying it from any list gives any later list.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::registry::testing::{Lines, Server, config};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

type Replica = BTreeMap<String, Value>;

fn replica(list: &Value) -> Replica {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| (item["metadata"]["name"].as_str().expect("a name").to_owned(), item.clone())).collect()
}

/// Replays frames until `revision` is reached; checks order and kind of every frame on the way.
async fn replay(mut state: Replica, watch: &mut Lines, from: u64, to: u64) -> Replica {
    let mut last = from;
    while last < to {
        let frame = watch.next().await.expect("an open watch");
        let object = &frame["object"];
        let revision = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(revision > last, "{frame} after {last}");
        last = revision;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let known = state.contains_key(&name);
        match frame["type"].as_str() {
            Some("ADDED") if !known => _ = state.insert(name, object.clone()),
            Some("MODIFIED") if known => _ = state.insert(name, object.clone()),
            Some("DELETED") if known => _ = state.remove(&name),
            Some("BOOKMARK") => {}
            _ => panic!("{frame} with {name} known: {known}"),
        }
    }
    state
}

/// A small generator, so that a failure names its seed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

async fn write_randomly(server: &Server, seed: &mut u64) {
    let name = format!("c{}", random(seed) % 6);
    let mut object = config(&name, &random(seed).to_string());
    object["metadata"]["labels"] = json!({"even": (random(seed).is_multiple_of(2)).to_string()});
    match random(seed) % 3 {
        0 => _ = server.delete(&format!("{CONFIGS}/{name}"), &Value::Null).await,
        1 => _ = server.post(CONFIGS, &object).await,
        _ => _ = server.put(&format!("{CONFIGS}/{name}"), &object).await,
    }
}

#[tokio::test]
async fn replaying_a_watch_from_any_list_gives_every_later_list() {
    for (seed, query) in (1..=4_u64).flat_map(|seed| [(seed, ""), (seed, "&labelSelector=even%3Dtrue")]) {
        let server = Server::start().await;
        let mut chance = seed;
        let mut lists = Vec::new();
        for step in 0..120 {
            write_randomly(&server, &mut chance).await;
            if step % 10 == 0 {
                lists.push(server.get(&format!("{CONFIGS}?x=y{query}")).await);
            }
        }
        // One more write of every name ends every watch at a revision that both sides know.
        let last = lists.last().expect("twelve lists").clone();
        for first in &lists {
            let path = format!(
                "{CONFIGS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={}{query}",
                first.version()
            );
            let mut watch = server.watch(&path).await;
            let target = replica(&last.body).values().map(version_of).max().unwrap_or(0).max(first.version());
            let state = replay(replica(&first.body), &mut watch, first.version(), target).await;
            let upserts = |state: &Replica| state.values().map(version_of).filter(|version| *version > 0).max();
            assert!(
                upserts(&state) >= upserts(&replica(&last.body)).filter(|_| target > first.version()),
                "seed {seed}"
            );
            let exact =
                server.get(&format!("{CONFIGS}?resourceVersion={target}&resourceVersionMatch=Exact{query}")).await;
            assert_eq!(state, replica(&exact.body), "seed {seed}, from {} to {target}", first.version());
        }
    }
}

fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_under_load_see_everything_once_and_in_order() {
    let server = Server::start().await;
    let start = server.get(CONFIGS).await;
    let path = format!("{CONFIGS}?watch=true&resourceVersion={}", start.version());
    let mut slow = server.watch(&path).await;
    let mut writers = JoinSet::new();
    for writer in 0..4_u64 {
        let server = server.clone();
        writers.spawn(async move {
            let mut seed = 77 + writer;
            for _ in 0..150 {
                write_randomly(&server, &mut seed).await;
            }
        });
    }
    let mut watch = server.watch(&path).await;
    let replaying = {
        let (server, start) = (server.clone(), start.clone());
        tokio::spawn(async move {
            writers.join_all().await;
            // A last object of a known name makes the end visible to every watcher.
            let last = server.post(CONFIGS, &config("last", "1")).await.version();
            let state = replay(replica(&start.body), &mut watch, start.version(), last).await;
            (state, last)
        })
    };
    let (state, last) = replaying.await.expect("no panic");
    assert_eq!(state, replica(&server.get(CONFIGS).await.body));
    // This one read nothing all the while, held nobody up, and still misses nothing.
    assert_eq!(replay(replica(&start.body), &mut slow, start.version(), last).await, state);
}
