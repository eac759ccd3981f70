use std::{fs, sync::Arc};

use serde_json::{Value, json};

use super::fake::{Node, path, pod, uid};
use crate::{
    engine::Engine,
    seams::{MountSource, PodVolumes},
    volumes::ApiFailure,
};

fn local() -> Value {
    json!({ "driver": "drover.dev/local", "volumeHandle": "pv-1" })
}

fn docker() -> Value {
    json!({ "driver": "drover.dev/docker", "volumeHandle": "vol", "volumeAttributes": { "driver": "local" } })
}

fn web() -> k8s_openapi::api::core::v1::Pod {
    pod(&json!([{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }]))
}

/// Lets the reclaimer look once.
async fn reclaim(node: &Node) -> Option<String> {
    let volumes: Vec<_> = node.api.state().volumes.values().cloned().map(Arc::new).collect();
    node.reclaimer().pass(&volumes).await
}

fn delete_volume(node: &Node, policy: &str) {
    let mut state = node.api.state();
    state.claims.clear();
    let volume = state.volumes.get_mut("pv-1").unwrap();
    volume.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    volume.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some(policy.to_owned());
}

fn finalizers(node: &Node) -> usize {
    node.api.state().volumes["pv-1"].metadata.finalizers.as_ref().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_claim_keeps_its_data_from_pod_to_pod() {
    let node = Node::new();
    node.api.put_claim("data", "pv-1", &local());
    let volumes = node.volumes();
    let dir = path(&volumes.prepare(&web()).await.unwrap(), "d");
    assert!(node.api.is_initialized("pv-1"), "noted before the pod starts");
    fs::write(dir.join("file"), "1").unwrap();
    volumes.remove(&uid()).await.unwrap();
    let again = node.volumes();
    assert_eq!(path(&again.prepare(&web()).await.unwrap(), "d"), dir);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "1");
}

#[tokio::test]
async fn lost_data_is_refused_and_never_replaced_by_an_empty_directory() {
    let node = Node::new();
    node.api.put_claim("data", "pv-1", &local());
    let volumes = node.volumes();
    let dir = path(&volumes.prepare(&web()).await.unwrap(), "d");
    let parent = dir.parent().unwrap().to_owned();
    fs::remove_dir_all(&parent).unwrap();
    let error = volumes.prepare(&web()).await.unwrap_err();
    assert!(error.message.contains("its storage is gone from this node") && error.retry, "{error:?}");
    assert!(!parent.exists());
    fs::create_dir_all(&dir).unwrap();
    let error = volumes.prepare(&web()).await.unwrap_err();
    assert!(error.message.contains("no marker of ours"), "{error:?}");
}

#[tokio::test]
async fn a_crash_between_directory_and_annotation_is_made_good() {
    let node = Node::new();
    node.api.put_claim("data", "pv-1", &local());
    node.api.state().failure = Some(ApiFailure::Failed("server down".to_owned()));
    let volumes = node.volumes();
    let dir = path(&volumes.prepare(&web()).await.unwrap(), "d");
    assert!(node.api.is_initialized("pv-1"), "the second try noted it");
    // The same, ended after the directory was made.
    node.api.state().volumes.get_mut("pv-1").unwrap().metadata.annotations = None;
    assert_eq!(path(&node.volumes().prepare(&web()).await.unwrap(), "d"), dir);
    assert!(node.api.is_initialized("pv-1"));
}

#[tokio::test]
async fn a_docker_volume_is_made_once_and_known_by_its_labels() {
    let node = Node::new();
    node.api.put_claim("data", "pv-1", &docker());
    let volumes = node.volumes();
    let prepared = volumes.prepare(&web()).await.unwrap();
    assert_eq!(prepared[0].source, MountSource::DockerVolume("vol".to_owned()));
    assert_eq!(node.engine.calls(), ["create volume vol"]);
    volumes.prepare(&web()).await.unwrap();
    assert_eq!(node.engine.calls(), ["create volume vol"]);
    node.engine.remove_volume("vol").await.unwrap();
    let error = volumes.prepare(&web()).await.unwrap_err();
    assert!(error.message.contains("its storage is gone"), "{error:?}");
}

#[tokio::test]
async fn a_shared_docker_volume_gets_its_way_on_every_node_and_a_local_one_does_not() {
    for (driver, mounts) in [("ceph", true), ("local", false)] {
        let node = Node::new();
        let attributes = json!({ "driver": driver });
        let source = json!({ "driver": "drover.dev/docker", "volumeHandle": "vol", "volumeAttributes": attributes });
        node.api.put_claim("data", "pv-1", &source);
        {
            // Another node has mounted it before.
            let mut state = node.api.state();
            let volume = state.volumes.get_mut("pv-1").unwrap();
            volume.spec.as_mut().unwrap().node_affinity = None;
            volume.metadata.annotations = Some([("drover.dev/initialized".to_owned(), "true".to_owned())].into());
        }
        assert_eq!(node.volumes().prepare(&web()).await.is_ok(), mounts, "{driver}");
    }
}

#[tokio::test]
async fn somebody_elses_docker_volume_is_neither_mounted_nor_removed() {
    let node = Node::new();
    node.api.put_claim("data", "pv-1", &docker());
    let request = crate::engine::VolumeRequest { name: "vol".to_owned(), ..Default::default() };
    node.engine.create_volume(&request).await.unwrap();
    let error = node.volumes().prepare(&web()).await.unwrap_err();
    assert!(error.message.contains("was not made for it"), "{error:?}");
    delete_volume(&node, "Delete");
    assert!(reclaim(&node).await.is_some_and(|words| words.contains("left alone")));
    assert!(node.engine.inspect_volume("vol").await.is_ok());
    assert_eq!(finalizers(&node), 1);
}

#[tokio::test]
async fn an_engine_volume_cannot_bind_what_host_path_may_not() {
    let node = Node::new();
    let options = json!({ "driver": "local", "type": "none", "o": "bind", "device": "/run" });
    let source = json!({ "driver": "drover.dev/docker", "volumeHandle": "vol", "volumeAttributes": options });
    node.api.put_claim("data", "pv-1", &source);
    let error = node.volumes().prepare(&web()).await.unwrap_err();
    assert!(error.message.contains("may not be mounted"), "{error:?}");
    assert!(node.engine.calls().is_empty());
}

#[tokio::test]
async fn deleting_a_volume_removes_its_data_and_then_lets_it_go() {
    for (source, policy, keeps) in [(local(), "Delete", false), (local(), "Retain", true), (docker(), "Delete", false)]
    {
        let node = Node::new();
        node.api.put_claim("data", "pv-1", &source);
        let prepared = node.volumes().prepare(&web()).await.unwrap();
        delete_volume(&node, policy);
        assert_eq!(reclaim(&node).await, None);
        assert_eq!(finalizers(&node), 0, "{source} {policy}");
        let exists = match &prepared[0].source {
            MountSource::HostPath(path) => path.exists(),
            MountSource::DockerVolume(name) => node.engine.inspect_volume(name).await.is_ok(),
        };
        assert_eq!(exists, keeps, "{source} {policy}");
    }
}

#[tokio::test]
async fn data_stays_while_the_claim_exists_or_the_marker_is_anothers() {
    let node = Node::new();
    node.api.put_claim("data", "pv-1", &local());
    let dir = path(&node.volumes().prepare(&web()).await.unwrap(), "d");
    let claims = node.api.state().claims.clone();
    delete_volume(&node, "Delete");
    node.api.state().claims = claims;
    assert!(reclaim(&node).await.is_some_and(|words| words.contains("its claim still exists")));
    assert!(dir.exists());
    node.api.state().claims.clear();
    fs::write(dir.parent().unwrap().join("volume-uid"), "another").unwrap();
    assert!(reclaim(&node).await.is_some_and(|words| words.contains("belongs to the volume with uid")));
    assert!(dir.exists());
    assert_eq!(finalizers(&node), 1);
}
