use std::{fs, path::Path, time::Duration};

use serde_json::json;

use super::fake::{Node, path, pod, uid};
use crate::{clock::Clock, seams::PodVolumes, volumes::ApiFailure};

/// Waits for a file to say something.
async fn becomes(path: &Path, text: &str) {
    let mut last = None;
    let wait = async {
        loop {
            last = fs::read_to_string(path).ok();
            if last.as_deref() == Some(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "{} is {last:?}, not {text:?}", path.display());
}

#[tokio::test]
async fn a_change_of_the_objects_reaches_the_files() {
    let node = Node::new();
    node.api.put_config_map("cm", &json!({ "k": "1", "gone": "x" }));
    let volumes = node.volumes();
    let mut web = pod(&json!([
        { "name": "conf", "configMap": { "name": "cm" } },
        { "name": "info", "downwardAPI": { "items": [
            { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
    ]));
    let prepared = volumes.prepare(&web).await.unwrap();
    assert!(prepared.iter().all(|volume| volume.read_only));
    let (conf, info) = (path(&prepared, "conf"), path(&prepared, "info"));
    assert_eq!(fs::read_to_string(conf.join("k")).unwrap(), "1");
    assert!(info.starts_with(node.secrets().canonicalize().unwrap()));

    node.api.put_config_map("cm", &json!({ "k": "2" }));
    becomes(&conf.join("k"), "2").await;
    assert!(!conf.join("gone").exists());

    web.metadata.labels.get_or_insert_default().insert("app".to_owned(), "y".to_owned());
    volumes.refresh(&web).await.unwrap();
    assert_eq!(fs::read_to_string(info.join("labels")).unwrap(), "app=\"y\"");
    volumes.remove(&uid()).await.unwrap();
    assert!(!conf.exists() && !info.exists());
    node.api.put_config_map("cm", &json!({ "k": "3" }));
    tokio::task::yield_now().await;
    assert!(!conf.exists());
}

#[tokio::test]
async fn a_missing_object_is_named_and_found_once_it_is_there() {
    let node = Node::new();
    let volumes = node.volumes();
    let web = pod(&json!([
        { "name": "v", "configMap": { "name": "late", "items": [{ "key": "k", "path": "p" }] } },
    ]));
    let error = volumes.prepare(&web).await.unwrap_err();
    assert_eq!(error.reason, "FailedMount");
    assert_eq!(error.message, "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found");
    assert!(error.retry);
    node.api.put_config_map("late", &json!({ "other": "" }));
    let error = volumes.prepare(&web).await.unwrap_err();
    assert!(error.message.ends_with(": references non-existent config key: k"), "{}", error.message);
    node.api.put_config_map("late", &json!({ "k": "1" }));
    let prepared = volumes.prepare(&web).await.unwrap();
    assert_eq!(fs::read_to_string(path(&prepared, "v").join("p")).unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends_and_kept_when_that_fails() {
    let node = Node::with_clock(Clock::runtime("2026-01-01T00:00:00Z".parse().unwrap()));
    let volumes = node.volumes();
    let sources = json!([{ "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } }]);
    let web = pod(&json!([{ "name": "t", "projected": { "sources": sources } }]));
    let token = path(&volumes.prepare(&web).await.unwrap(), "t").join("token");
    assert_eq!(fs::read_to_string(&token).unwrap(), "robot/pod-1/1");
    volumes.prepare(&web).await.unwrap();
    assert_eq!(node.api.state().tokens_issued, 1, "a good token is not asked for again");
    tokio::time::sleep(Duration::from_secs(40 * 60)).await;
    assert_eq!(node.api.state().tokens_issued, 1);
    // The first try fails; the next comes before the old token ends.
    node.api.state().failure = Some(ApiFailure::Failed("no".to_owned()));
    tokio::time::sleep(Duration::from_secs(9 * 60)).await;
    becomes(&token, "robot/pod-1/2").await;
    assert_eq!(node.api.state().tokens_issued, 2);
}
