//! The checks as a table: what the cluster says, and what is made of it.

use serde_json::{Value, json};

use super::{
    checks::{self, Verdict},
    rbac,
    world::World,
};

fn finding(world: &World, id: &str) -> (Verdict, String) {
    let found = checks::all(world)
        .into_iter()
        .find(|finding| finding.id.split(',').any(|part| part == id || part.starts_with(id)));
    let found = found.unwrap_or_else(|| panic!("no check {id}"));
    (found.verdict, found.reason)
}

#[track_caller]
fn check(world: &World, id: &str, verdict: Verdict, reason: &str) {
    assert_eq!(finding(world, id), (verdict, reason.to_owned()));
}

fn reported(report: Value) -> World {
    World { report, ..World::default() }
}

fn pod(namespace: &str, spec: &Value) -> World {
    World { pods: vec![json!({"metadata": {"namespace": namespace, "name": "p"}, "spec": spec})], ..World::default() }
}

#[test]
fn a_server_that_tells_nothing_never_passes() {
    let world = World::default();
    for id in ["1.1.1", "1.2.1", "1.2.16", "3.2.2", "1.2.20", "1.2.24", "1.2.27", "2.1"] {
        check(&world, id, Verdict::Warn, "the server does not tell");
    }
}

#[test]
fn files_keys_and_logs_are_judged_by_the_report() {
    let file =
        |path: &str, mode: &str| reported(json!({"processUid": 0, "files": [{"path": path, "mode": mode, "uid": 0}]}));
    check(&file("/d/pki/ca.key", "0600"), "1.1.1", Verdict::Pass, "no files that others can reach");
    check(&file("/d/pki/ca.crt", "0644"), "1.1.1", Verdict::Pass, "no files that others can reach");
    check(
        &file("/d/pki/ca.key", "0640"),
        "1.1.1",
        Verdict::Fail,
        "1 files that others can reach: /d/pki/ca.key (0640)",
    );
    check(&file("/d", "0755"), "1.1.1", Verdict::Warn, "1 files that others can reach: /d (0755)");
    let paths = |paths: Value| reported(json!({"anonymousPaths": paths}));
    check(&paths(json!(["/livez"])), "1.2.1", Verdict::Pass, "no other paths without credentials");
    check(&paths(json!(["/metrics"])), "1.2.1", Verdict::Fail, "1 other paths without credentials: /metrics");
    let audit = |bytes: u64, dropped: u64| {
        reported(
            json!({"audit": {"enabled": true, "sink": {"fileBytesMax": bytes, "filesMax": 10}, "written": 7, "dropped": dropped}}),
        )
    };
    check(&audit(100 << 20, 0), "1.2.16", Verdict::Pass, "10 old files of 100 MiB");
    check(&audit(1 << 20, 0), "1.2.16", Verdict::Warn, "keeps only 10 files of 1 MiB");
    check(&audit(1, 0), "3.2.2", Verdict::Pass, "7 events written since the start, none lost");
    check(&audit(1, 3), "3.2.2", Verdict::Warn, "3 events lost since the start");
    check(&reported(json!({"audit": {"enabled": false}})), "1.2.16", Verdict::Fail, "the audit log is switched off");
    check(&reported(json!({"tlsVersions": ["1.3", "1.2"]})), "1.2.24", Verdict::Fail, "1 older versions: \"1.2\"");
    check(&reported(json!({"store": "etcds"})), "2.1", Verdict::Pass, "etcd over TLS");
    assert_eq!(finding(&reported(json!({"store": "etcd"})), "2.1").0, Verdict::Fail);
}

#[test]
fn sealing_passes_only_when_everything_is_sealed_with_the_key_in_use() {
    let sealing = |plain: u64, old: u64, unreadable: Value| {
        let keys = json!([{"id": "a", "primary": false, "values": old}, {"id": "b", "primary": true, "values": 9}]);
        reported(json!({"sealing": {"keys": keys, "plain": plain, "unreadable": unreadable}}))
    };
    check(&sealing(0, 0, json!([])), "1.2.27", Verdict::Pass, "2 keys");
    check(&sealing(0, 4, json!([])), "1.2.27", Verdict::Warn, "4 values are sealed with an old key");
    check(&sealing(2, 4, json!([])), "1.2.27", Verdict::Fail, "2 values are not sealed");
    check(&sealing(2, 4, json!(["x"])), "1.2.27", Verdict::Fail, "1 values cannot be opened");
}

#[test]
fn pods_are_judged_by_their_spec_and_the_clusters_own_are_left_out() {
    let privileged = json!({"containers": [{"securityContext": {"privileged": true}}]});
    check(&pod("a", &privileged), "5.2.2", Verdict::Fail, "1 pods with privileged containers: a/p");
    check(&pod("kube-system", &privileged), "5.2.2", Verdict::Pass, "no pods with privileged containers");
    check(&pod("a", &json!({"hostPID": true})), "5.2.3", Verdict::Fail, "1 pods: a/p");
    let safe = json!({"containers": [{"image": "x@sha256:0", "securityContext": {"runAsNonRoot": true, "allowPrivilegeEscalation": false}}]});
    check(&pod("a", &safe), "5.2.6", Verdict::Pass, "no pods");
    check(&pod("a", &safe), "5.5.1", Verdict::Pass, "no pods with a movable tag");
    check(&pod("a", &json!({"containers": [{"image": "x:1"}]})), "5.2.6", Verdict::Warn, "1 pods: a/p");
    let added = json!({"initContainers": [{"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]});
    check(&pod("a", &added), "5.2.8", Verdict::Warn, "1 pods: a/p");
    let port = json!({"containers": [{"ports": [{"hostPort": 80}]}]});
    check(&pod("a", &port), "5.2.11", Verdict::Warn, "1 pods: a/p");
    let variable = json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]});
    check(&pod("a", &variable), "5.4.1", Verdict::Warn, "1 pods: a/p");
    check(&pod("default", &json!({})), "5.7.4", Verdict::Warn, "1 pods and 0 secrets in it");
    let node =
        json!({"metadata": {"name": "n"}, "status": {"nodeInfo": {"containerRuntimeVersion": "docker://20.10.24"}}});
    let old = World { nodes: vec![node], ..World::default() };
    check(&old, "4.1", Verdict::Warn, "1 nodes with an engine older than 25: n (docker://20.10.24)");
}

#[test]
fn namespaces_need_a_level_and_a_policy() {
    let space = |labels: &Value| json!({"metadata": {"name": "a", "labels": labels}});
    let world = |labels: Value| World { namespaces: vec![space(&labels)], ..World::default() };
    let level = |level: &str| world(json!({"pod-security.kubernetes.io/enforce": level}));
    check(&level("restricted"), "5.2.1", Verdict::Pass, "no namespaces without baseline or restricted");
    check(&level("privileged"), "5.2.1", Verdict::Warn, "1 namespaces without baseline or restricted: a");
    check(&world(json!({})), "5.3.2", Verdict::Warn, "1 namespaces without one: a");
    let covered =
        World { network_policies: vec![json!({"metadata": {"namespace": "a", "name": "p"}})], ..world(json!({})) };
    check(&covered, "5.3.2", Verdict::Pass, "no namespaces without one");
}

fn bound(rules: &Value, subject: &Value, kind: &str) -> World {
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    let metadata = if kind == "RoleBinding" { json!({"name": "b", "namespace": "a"}) } else { json!({"name": "b"}) };
    let binding = json!({"metadata": metadata, "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [subject]});
    let mut world = World { cluster_roles: vec![role], ..World::default() };
    if kind == "RoleBinding" {
        world.role_bindings = vec![binding]
    } else {
        world.cluster_role_bindings = vec![binding]
    }
    world
}

#[test]
fn holders_are_found_through_wildcards_and_scoped_by_their_binding() {
    let jane = json!({"kind": "User", "name": "jane"});
    let rules = json!([{"apiGroups": [""], "resources": ["secrets", "*/exec"], "verbs": ["*"]}]);
    let world = bound(&rules, &jane, "RoleBinding");
    let found: Vec<(&str, String)> =
        rbac::holders(&world).into_iter().map(|holder| (holder.right, holder.scope)).collect();
    assert_eq!(found, [("read secrets", "a".to_owned()), ("run commands in pods", "a".to_owned())]);
    check(&world, "5.1.2", Verdict::Warn, "1 holders: User jane (a)");
    check(&world, "5.1.1", Verdict::Pass, "no holders");
    check(&world, "5.1.3", Verdict::Warn, "1 roles with wildcards: r");
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    check(&bound(&all, &jane, "ClusterRoleBinding"), "5.1.1", Verdict::Warn, "1 holders: User jane (cluster)");
    let masters = json!({"kind": "Group", "name": "system:masters"});
    let world = bound(&all, &masters, "ClusterRoleBinding");
    check(&world, "5.1.1", Verdict::Pass, "no holders");
    check(&world, "5.1.7", Verdict::Warn, "1 bindings: b");
    let other = json!([{"apiGroups": ["apps"], "resources": ["secrets"], "verbs": ["get"]}]);
    assert_eq!(rbac::holders(&bound(&other, &json!({"kind": "User", "name": "x"}), "RoleBinding")), []);
}

#[test]
fn every_check_has_its_own_number() {
    let mut ids: Vec<&str> = checks::all(&World::default()).iter().map(|finding| finding.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
