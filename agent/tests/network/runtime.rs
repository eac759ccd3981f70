//! The runtime wrapper with a real Docker Engine.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::lab::{Lab, root};
use bollard::{API_DEFAULT_VERSION, Docker};
use drover_agent::{
    ids::{ContainerId, PodUid},
    network::{RuntimeConfig, register, unregister},
    seams::PodNetwork,
};

pub(crate) const SOCKET: &str = "/var/run/docker.sock";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program and returns what it prints; a failure is a panic with its words.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    run("docker", arguments)
}

/// The wrapper: the one that `DROVER_RUNC` names, else built here.
fn wrapper() -> PathBuf {
    if let Some(path) = std::env::var_os("DROVER_RUNC") {
        return path.into();
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["build", "--offline", "-p", "drover-runc", "--manifest-path"];
    let path = manifest.join("Cargo.toml");
    let words = arguments.into_iter().chain([path.to_str().unwrap()]).collect::<Vec<_>>();
    run(&cargo, &words);
    // Next to the folder of this test's own binary.
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("drover-runc")
}

/// An image with nothing but a static program that tells the network it sees, made from this machine's busybox.
pub(crate) fn image(name: &str) -> bool {
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("SKIPPED: no busybox (apt-get install busybox-static)");
        return false;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(busybox, folder.path().join("busybox")).unwrap();
    let script = format!("tar -C {} -c . | docker import - {name}", folder.path().display());
    run("sh", &["-c", &script]);
    true
}

/// Removes what the test made in the engine, whatever happens.
pub(crate) struct Cleanup {
    pub(crate) containers: Vec<String>,
    pub(crate) image: String,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        for container in &self.containers {
            drop(Command::new("docker").args(["rm", "-f", container]).output());
        }
        drop(Command::new("docker").args(["rmi", &self.image]).output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_starts_in_its_pods_name_space_and_foreign_ones_do_not() {
    if !root() {
        return;
    }
    if !Path::new(SOCKET).exists() {
        eprintln!("SKIPPED: no Docker Engine at {SOCKET}");
        return;
    }
    let image_name = format!("drover-test-{}:1", std::process::id());
    if !image(&image_name) {
        return;
    }
    let mut cleanup = Cleanup { containers: Vec::new(), image: image_name.clone() };
    let lab = Lab::start().await;
    let pod = lab.pod("pod").await;
    let folder = tempfile::tempdir().unwrap();
    let name = format!("drover-test-{}", std::process::id());
    let config = RuntimeConfig {
        name: name.clone(),
        source: wrapper(),
        program: folder.path().join("drover-runc"),
        socket: SOCKET.into(),
    };
    let engine = Docker::connect_with_unix(SOCKET, 60, API_DEFAULT_VERSION).unwrap().negotiate_version().await.unwrap();
    let first = tokio::time::timeout(PATIENCE, register(&config, &engine)).await.unwrap().unwrap();
    assert!(first.changed);
    let second = register(&config, &engine).await.unwrap();
    assert!(!second.changed, "a second time nothing is to be done");

    let create = |runtime: &str| {
        let words = ["create", "--label", "dev.drover.test=1", "--network", "host", "--runtime", runtime];
        docker(&[&words[..], &[image_name.as_str(), "/busybox", "sleep", "1000"]].concat())
    };
    let (inside, free, plain) = (create(&name), create(&name), create("runc"));
    cleanup.containers.extend([inside.clone(), free.clone(), plain.clone()]);
    // The wrapper looks where production has its links; the file name is the container's own id.
    let links = Path::new("/run/drover/containers");
    std::fs::create_dir_all(links).unwrap();
    let link = links.join(&inside);
    std::os::unix::fs::symlink(&pod.netns, &link).unwrap();
    for container in [&inside, &free, &plain] {
        docker(&["start", container]);
    }
    std::fs::remove_file(&link).unwrap();
    let addresses = |container: &str| docker(&["exec", container, "/busybox", "ip", "-o", "addr"]);
    let own = format!("inet {}/32", pod.address);
    assert!(addresses(&inside).contains(&own), "{}", addresses(&inside));
    assert_eq!(docker(&["exec", &inside, "/busybox", "ls", "/sys/class/net"]), "eth0\nlo");
    for container in [&free, &plain] {
        assert!(!addresses(container).contains(&own) && addresses(container).contains(&lab.config.bridge));
    }

    // A pod whose name space is gone must not start in the host's.
    let gone = create(&name);
    cleanup.containers.push(gone.clone());
    let link = links.join(&gone);
    std::os::unix::fs::symlink("/run/drover/netns/nonexistent", &link).unwrap();
    let output = Command::new("docker").args(["start", &gone]).output().unwrap();
    std::fs::remove_file(&link).unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("the pod's network namespace"), "{message}");

    drop(cleanup);
    unregister(&config, &engine).await.unwrap();
    let left: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(first.daemon_json).unwrap()).unwrap();
    assert!(left["runtimes"].get(&name).is_none());
    let unknown = ContainerId::new("0123456789abcdef").unwrap();
    lab.network.link_container(&unknown, &PodUid::new("pod").unwrap()).await.unwrap();
    lab.network.unlink_container(&unknown).await.unwrap();
    lab.end().await;
}
