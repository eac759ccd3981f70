use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::fake::{Node, is_root, path, pod, uid};
use crate::{
    seams::{MountSource, PodVolumes},
    volumes::mounts,
};

#[tokio::test]
async fn an_empty_dir_keeps_its_files_over_a_restart_of_the_agent_and_goes_with_the_pod() {
    let node = Node::new();
    let web = pod(&json!([{ "name": "e", "emptyDir": {} }]));
    let dir = path(&node.volumes().prepare(&web).await.unwrap(), "e");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o777);
    fs::write(dir.join("x"), "1").unwrap();
    let again = node.volumes();
    assert_eq!(again.list().await.unwrap(), [uid()]);
    assert_eq!(path(&again.prepare(&web).await.unwrap(), "e"), dir);
    assert!(dir.join("x").exists());
    again.remove(&uid()).await.unwrap();
    again.remove(&uid()).await.unwrap();
    assert!(!dir.exists());
    assert_eq!(again.list().await.unwrap(), []);
}

#[tokio::test]
async fn an_empty_dir_in_memory_has_its_size_and_leaves_no_mount() {
    if !is_root() {
        return;
    }
    let node = Node::new();
    let volumes = node.volumes();
    let web = pod(&json!([{ "name": "m", "emptyDir": { "medium": "Memory", "sizeLimit": "64Ki" } }]));
    let dir = path(&volumes.prepare(&web).await.unwrap(), "m");
    assert!(mounts::is_in_memory(&dir));
    fs::write(dir.join("fits"), vec![0; 16 << 10]).unwrap();
    assert!(fs::write(dir.join("too-much"), vec![0; 128 << 10]).is_err());
    volumes.prepare(&web).await.unwrap();
    assert!(dir.join("fits").exists(), "not mounted over");
    volumes.remove(&uid()).await.unwrap();
    assert!(!dir.exists() && !mounts::is_mount_point(&dir).unwrap());
}

#[tokio::test]
async fn removing_a_pod_never_reaches_through_its_mounts() {
    if !is_root() {
        return;
    }
    let node = Node::new();
    let volumes = node.volumes();
    let precious = node.dir.path().canonicalize().unwrap().join("precious");
    fs::create_dir_all(precious.join("sub")).unwrap();
    fs::write(precious.join("sub/data"), "x").unwrap();
    let web = pod(&json!([{ "name": "h", "hostPath": { "path": precious } }, { "name": "e", "emptyDir": {} }]));
    let prepared = volumes.prepare(&web).await.unwrap();
    let mounted = volumes.sub_path(&uid(), &prepared[0], "sub").await.unwrap();
    let MountSource::HostPath(mounted) = mounted else { panic!("{mounted:?}") };
    assert!(mounted.join("data").exists());
    volumes.remove(&uid()).await.unwrap();
    assert!(precious.join("sub/data").exists());
    assert!(!mounted.exists());
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_sentence() {
    let node = Node::new();
    let volumes = node.volumes();
    for (volume, words, retry) in [
        (json!({ "name": "v", "nfs": { "server": "s", "path": "/" } }), "volumes of kind nfs are not supported", false),
        (json!({ "name": "v", "hostPath": { "path": "/run/docker.sock" } }), "may not be mounted", false),
        (json!({ "name": "v", "hostPath": { "path": node.dir.path().join("data") } }), "may not be mounted", false),
        (
            json!({ "name": "v", "hostPath": { "path": "/etc/passwd", "type": "Directory" } }),
            "hostPath type check failed: /etc/passwd is not a directory",
            true,
        ),
        (json!({ "name": "../v", "emptyDir": {} }), "not a DNS label", false),
        (
            json!({ "name": "v", "persistentVolumeClaim": { "claimName": "none" } }),
            "persistentvolumeclaim \"none\" not found",
            true,
        ),
    ] {
        let error = volumes.prepare(&pod(&json!([volume]))).await.unwrap_err();
        assert!(error.message.starts_with("MountVolume.SetUp failed for volume "), "{error:?}");
        assert!(error.message.contains(words) && error.retry == retry, "{error:?}");
    }
}
