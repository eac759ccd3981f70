//! Golden configurations and refusals.

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::VolumeMount;
use serde_json::{Value, json};

use super::*;
use crate::{
    ids::PodUid,
    seams::{MountSource, PreparedVolume},
};

fn build(pod_spec: Value, container: Value) -> Result<ContainerConfig, ConfigError> {
    let mut full = json!({"name": "app", "image": "web:1"});
    merge(&mut full, container);
    let mut spec = json!({});
    merge(&mut spec, pod_spec);
    spec["containers"] = json!([full]);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"}, "spec": spec,
    }))
    .expect("a pod");
    let spec = pod.spec.as_ref().expect("a spec");
    let container = &spec.containers[0];
    let volume = |mount: &VolumeMount| {
        let source = match mount.name.as_str() {
            "socket" => MountSource::HostPath("/run/docker.sock".into()),
            "root" => MountSource::HostPath("/".into()),
            name => MountSource::HostPath(format!("/srv/{name}").into()),
        };
        PreparedVolume { name: mount.name.clone(), source, read_only: mount.name == "secret" }
    };
    let mounts = container.volume_mounts.iter().flatten().map(|mount| {
        let volume = volume(mount);
        ResolvedMount { mount: mount.clone(), source: volume.source.clone(), volume }
    });
    let input = BuildInput {
        pod: &pod,
        spec,
        container,
        identity: ContainerIdentity {
            owner: Owner { cluster: "c".to_owned(), node: "n1".to_owned() },
            pod: PodUid::new("u1").expect("a uid"),
            namespace: "default".to_owned(),
            pod_name: "web".to_owned(),
            container: "app".to_owned(),
            attempt: 2,
            hash: "h".to_owned(),
            seal: "s".to_owned(),
        },
        env: vec![("WHO".to_owned(), "you".to_owned())],
        mounts: mounts.collect(),
        files: vec![("/pods/u1/etc-hosts".into(), "/etc/hosts".to_owned())],
        hostname: Some("web".to_owned()),
        networking: EngineNetworking {
            network_mode: "host".to_owned(),
            runtime: Some("drover".to_owned()),
            ipv4: None,
        },
        image_user: Some(String::new()),
        image_working_dir: (container.image.as_deref() == Some("runs-in-proc")).then(|| "/proc/self/fd/8".to_owned()),
        node_memory_bytes: 4 << 30,
        oom_score_floor: -1000,
        forbidden: &ForbiddenPaths::new(["/run/docker.sock".into()]),
    };
    build_container_config(&input)
}

fn merge(base: &mut Value, over: Value) {
    match over {
        Value::Object(map) => {
            for (key, value) in map {
                base[key] = value;
            }
        }
        other => *base = other,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "tables read better")]
fn golden(pod_spec: Value, container: Value, expected: Expect) {
    let config = build(pod_spec, container).expect("a configuration");
    expected.assert_eq(&serde_json::to_string_pretty(&config).expect("json"));
}

fn refused(pod_spec: Value, container: Value) -> String {
    build(pod_spec, container).expect_err("refused").message
}

#[test]
fn a_plain_container() {
    golden(
        json!({}),
        json!({"command": ["/bin/run", "$(WHO)"], "args": ["a"]}),
        expect![[r#"
        {
          "image": "web:1",
          "entrypoint": [
            "/bin/run",
            "you"
          ],
          "command": [
            "a"
          ],
          "working_dir": null,
          "env": [
            "WHO=you"
          ],
          "labels": {
            "dev.drover.attempt": "2",
            "dev.drover.cluster": "c",
            "dev.drover.container": "app",
            "dev.drover.hash": "h",
            "dev.drover.node": "n1",
            "dev.drover.pod.name": "web",
            "dev.drover.pod.namespace": "default",
            "dev.drover.pod.uid": "u1",
            "dev.drover.seal": "s"
          },
          "mounts": [
            {
              "source": {
                "HostPath": "/pods/u1/etc-hosts"
              },
              "target": "/etc/hosts",
              "read_only": false,
              "propagation": null
            }
          ],
          "user": null,
          "hostname": "web",
          "network_mode": "host",
          "ipv4": null,
          "runtime": "drover",
          "host_pid": false,
          "host_ipc": false,
          "resources": {
            "memory_bytes": null,
            "nano_cpus": null,
            "cpu_shares": 2,
            "pids": 4096,
            "oom_score_adj": 1000,
            "shm_bytes": null
          },
          "security": {
            "privileged": false,
            "cap_add": [],
            "cap_drop": [],
            "read_only_root": false,
            "no_new_privileges": false,
            "seccomp_unconfined": false,
            "groups": [],
            "sysctls": {}
          },
          "stdin": false,
          "stdin_once": false,
          "tty": false,
          "stop_signal": null
        }"#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one golden text")]
fn everything_that_may_be_asked_for() {
    let pod_spec = json!({
        "hostPID": true,
        "securityContext": {"supplementalGroups": [7], "fsGroup": 9, "runAsUser": 5,
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]},
    });
    let container = json!({
        "workingDir": "/work", "tty": true, "stdin": true, "stdinOnce": true,
        "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1500m", "memory": "2Gi"}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data", "mountPropagation": "HostToContainer"},
            {"name": "secret", "mountPath": "/secret"},
        ],
        "securityContext": {"runAsGroup": 6, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
    });
    golden(
        pod_spec,
        container,
        expect![[r#"
        {
          "image": "web:1",
          "entrypoint": null,
          "command": null,
          "working_dir": "/work",
          "env": [
            "WHO=you"
          ],
          "labels": {
            "dev.drover.attempt": "2",
            "dev.drover.cluster": "c",
            "dev.drover.container": "app",
            "dev.drover.hash": "h",
            "dev.drover.node": "n1",
            "dev.drover.pod.name": "web",
            "dev.drover.pod.namespace": "default",
            "dev.drover.pod.uid": "u1",
            "dev.drover.seal": "s"
          },
          "mounts": [
            {
              "source": {
                "HostPath": "/srv/data"
              },
              "target": "/data",
              "read_only": false,
              "propagation": "rslave"
            },
            {
              "source": {
                "HostPath": "/srv/secret"
              },
              "target": "/secret",
              "read_only": true,
              "propagation": null
            },
            {
              "source": {
                "HostPath": "/pods/u1/etc-hosts"
              },
              "target": "/etc/hosts",
              "read_only": false,
              "propagation": null
            }
          ],
          "user": "5:6",
          "hostname": "web",
          "network_mode": "host",
          "ipv4": null,
          "runtime": "drover",
          "host_pid": true,
          "host_ipc": false,
          "resources": {
            "memory_bytes": 2147483648,
            "nano_cpus": 1500000000,
            "cpu_shares": 256,
            "pids": 4096,
            "oom_score_adj": 750,
            "shm_bytes": null
          },
          "security": {
            "privileged": false,
            "cap_add": [
              "NET_ADMIN"
            ],
            "cap_drop": [
              "ALL"
            ],
            "read_only_root": true,
            "no_new_privileges": true,
            "seccomp_unconfined": false,
            "groups": [
              "7",
              "9"
            ],
            "sysctls": {
              "net.ipv4.tcp_syncookies": "1"
            }
          },
          "stdin": true,
          "stdin_once": true,
          "tty": true,
          "stop_signal": null
        }"#]],
    );
}

#[test]
fn what_is_not_allowed_is_refused_with_its_reason() {
    let mount = |name: &str| json!({"volumeMounts": [{"name": name, "mountPath": "/x"}]});
    for name in ["socket", "root"] {
        assert!(refused(json!({}), mount(name)).contains("would expose the container engine"));
    }
    let table = [
        (json!({}), json!({"workingDir": "/proc/self/fd/8"}), "workingDir"),
        (json!({}), json!({"workingDir": "//proc/./self/fd/8"}), "workingDir"),
        (json!({}), json!({"workingDir": "/x/../proc/self/fd/8"}), "workingDir"),
        (json!({}), json!({"workingDir": "proc/self/fd/8"}), "workingDir"),
        (json!({}), json!({"image": "runs-in-proc"}), "workingDir"),
        (json!({}), json!({"image": "a b"}), "invalid reference format"),
        (json!({}), json!({"securityContext": {"procMount": "Unmasked"}}), "procMount"),
        (json!({}), json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}), "Localhost"),
        (json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}), json!({}), "sysctl"),
        (json!({"securityContext": {"runAsNonRoot": true}}), json!({}), "image will run as root"),
        (json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}), json!({}), "non-root"),
    ];
    for (pod_spec, container, word) in table {
        let message = refused(pod_spec, container);
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn pods_have_the_class_that_kubernetes_gives_them() {
    let class = |resources: Value| {
        let spec: PodSpec =
            serde_json::from_value(json!({"containers": [{"name": "a", "resources": resources}]})).expect("a spec");
        qos_class(&spec)
    };
    let all = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"limits": all})), "Guaranteed");
    assert_eq!(class(json!({"limits": all, "requests": {"cpu": "1000m", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(class(json!({"requests": all})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
}
