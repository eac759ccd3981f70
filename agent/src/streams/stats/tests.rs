use std::collections::BTreeMap;

use super::*;
use crate::{ids::PodUid, seams::ContainerRecord};

fn id() -> ContainerId {
    ContainerId::new(&"a1".repeat(32)).unwrap()
}

fn write(root: &Path, files: &[(String, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn use_is_found_where_either_cgroup_driver_of_either_version_puts_it() {
    let id = id();
    let v1 = |place: &str| {
        vec![
            (format!("cpuacct/{place}/cpuacct.usage"), "7000\n"),
            (format!("memory/{place}/memory.usage_in_bytes"), "900\n"),
            (format!("memory/{place}/memory.stat"), "inactive_file 5\ntotal_inactive_file 100\n"),
        ]
    };
    let v2 = |place: &str| {
        vec![
            (format!("{place}/cpu.stat"), "usage_usec 7\nuser_usec 3\n"),
            (format!("{place}/memory.current"), "900\n"),
            (format!("{place}/memory.stat"), "anon 1\ninactive_file 100\n"),
        ]
    };
    let (plain, systemd) = (format!("docker/{id}"), format!("system.slice/docker-{id}.scope"));
    for files in [v1(&plain), v1(&systemd), v2(&plain), v2(&systemd)] {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_cgroup(root.path(), &id), None);
        write(root.path(), &files);
        let stats = read_cgroup(root.path(), &id).unwrap();
        assert_eq!(stats, ContainerStats { cpu_nanos_total: 7000, memory_bytes: 800 }, "{files:?}");
    }
}

#[test]
fn the_nodes_use_leaves_idle_time_and_free_memory_out() {
    let root = tempfile::tempdir().unwrap();
    let stat = "cpu  10 1 4 1000 500 2 3 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    let meminfo = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  600 kB\n";
    write(root.path(), &[("stat".to_owned(), stat), ("meminfo".to_owned(), meminfo)]);
    let node = read_node(root.path()).unwrap();
    assert_eq!(node, ContainerStats { cpu_nanos_total: 20 * NANOS_PER_TICK, memory_bytes: 400 * 1024 });
}

#[test]
fn a_rate_is_what_was_used_since_the_earlier_sample() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let stats = |cpu: u64| ContainerStats { cpu_nanos_total: cpu, memory_bytes: 5 };
    let sample = |when, node, container| Sample {
        at: at(when),
        node: stats(node),
        containers: [(id(), stats(container))].into(),
    };
    let before = sample("2026-01-01T00:00:00Z", 1_000_000_000, 0);
    let after = sample("2026-01-01T00:00:02Z", 4_000_000_000, 500_000_000);
    let record = ContainerRecord { current: Some(id()), running: true, ..Default::default() };
    let pod = PodRecord {
        uid: PodUid::new("u-1").unwrap(),
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
        address: None,
        netns: None,
        containers: BTreeMap::from([("app".to_owned(), record), ("done".to_owned(), ContainerRecord::default())]),
    };
    let report = build_report(&[pod], &before, &after);
    let expected = json!({
        "node": { "cpuNanoCores": 1_500_000_000_u64, "memoryBytes": 5 },
        "pods": [{ "namespace": "ns", "name": "web", "uid": "u-1",
            "containers": [{ "name": "app", "cpuNanoCores": 250_000_000, "memoryBytes": 5 }] }],
    });
    assert_eq!(report, expected);
}
