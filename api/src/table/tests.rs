use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{defaults::arbitrary::arb_json, kinds};

const CREATED: &str = "2026-01-01T00:00:00Z";

fn now() -> i64 {
    age::seconds("2026-01-01T01:00:00Z").unwrap()
}

/// Makes the cells of an object as one line, the wide ones after a bar.
fn line(api_version: &str, name: &str, mut object: Value) -> String {
    let kind = kinds::by_gvk(api_version, name).unwrap();
    object["metadata"]["creationTimestamp"] = CREATED.into();
    if object["metadata"].get("name").is_none() {
        object["metadata"]["name"] = "x".into();
    }
    let cells = cells(kind, &object, now());
    let shown = |priority: u8| -> Vec<String> {
        let pairs = columns(kind).into_iter().zip(&cells).filter(|(column, _)| column.priority == priority);
        pairs.map(|(_, cell)| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
    };
    format!("{} | {}", shown(0).join("  "), shown(1).join("  ")).trim_end_matches(['|', ' ']).to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "cases read better as plain values")]
fn pod(spec: Value, status: Value) -> String {
    let shown = line("v1", "Pod", json!({"spec": spec, "status": status}));
    shown.split(" | ").next().unwrap_or_default().to_owned()
}

#[test]
fn durations_are_spelled_as_kubernetes_spells_them() {
    for (secs, wanted) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (180 * 60, "3h"),
        (200 * 60, "3h20m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (192 * 3600, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (770 * 86400, "2y40d"),
        (8 * 365 * 86400, "8y"),
    ] {
        assert_eq!(human_duration(secs), wanted, "{secs}");
    }
}

#[test]
fn a_pods_status_is_what_its_containers_say() {
    let spec = json!({"containers": [{"name": "a"}]});
    let main =
        |phase: &str, container: Value| pod(spec.clone(), json!({"phase": phase, "containerStatuses": [container]}));
    assert_eq!(pod(spec.clone(), json!({"phase": "Pending"})), "x  0/1  Pending  0  60m");
    assert_eq!(main("Running", json!({"ready": true, "state": {"running": {}}})), "x  1/1  Running  0  60m");
    assert_eq!(
        main(
            "Running",
            json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}})
        ),
        "x  0/1  CrashLoopBackOff  3 (5m ago)  60m"
    );
    assert_eq!(
        main("Succeeded", json!({"state": {"terminated": {"reason": "Completed"}}})),
        "x  0/1  Completed  0  60m"
    );
    assert_eq!(main("Failed", json!({"state": {"terminated": {"exitCode": 3}}})), "x  0/1  ExitCode:3  0  60m");
    assert_eq!(main("Failed", json!({"state": {"terminated": {"signal": 9}}})), "x  0/1  Signal:9  0  60m");
    assert_eq!(pod(spec.clone(), json!({"phase": "Failed", "reason": "Evicted"})), "x  0/1  Evicted  0  60m");
}

#[test]
fn one_finished_container_does_not_hide_a_running_one() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let statuses =
        json!([{"state": {"terminated": {"reason": "Completed"}}}, {"ready": true, "state": {"running": {}}}]);
    let status = |ready: &str| json!({"phase": "Running", "containerStatuses": statuses, "conditions": [{"type": "Ready", "status": ready}]});
    assert_eq!(pod(spec.clone(), status("True")), "x  1/2  Running  0  60m");
    assert_eq!(pod(spec, status("False")), "x  1/2  NotReady  0  60m");
}

#[test]
fn init_containers_show_how_far_they_are() {
    let spec = json!({"containers": [{"name": "m"}], "initContainers": [{"name": "a"}, {"name": "b"}]});
    let init = |statuses: Value| pod(spec.clone(), json!({"phase": "Pending", "initContainerStatuses": statuses}));
    let done = json!({"name": "a", "state": {"terminated": {"exitCode": 0}}});
    assert_eq!(init(json!([{"name": "a", "state": {"running": {}}}])), "x  0/1  Init:0/2  0  60m");
    assert_eq!(
        init(json!([done, {"name": "b", "state": {"waiting": {"reason": "PodInitializing"}}}])),
        "x  0/1  Init:1/2  0  60m"
    );
    assert_eq!(
        init(json!([{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}])),
        "x  0/1  Init:ErrImagePull  0  60m"
    );
    assert_eq!(
        init(json!([{"name": "a", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}])),
        "x  0/1  Init:Error  0  60m"
    );
    assert_eq!(
        init(json!([{"name": "a", "state": {"terminated": {"exitCode": 1}}}])),
        "x  0/1  Init:ExitCode:1  0  60m"
    );
}

#[test]
fn sidecars_count_among_the_containers() {
    let spec = json!({"containers": [{"name": "m"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let status = json!({
        "phase": "Running",
        "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}}],
        "containerStatuses": [{"name": "m", "ready": true, "state": {"running": {}}}],
    });
    assert_eq!(pod(spec, status), "x  2/2  Running  2  60m");
}

#[test]
fn a_pod_on_its_way_out_says_so() {
    let object = |phase: &str, reason: &str| {
        let object = json!({"metadata": {"deletionTimestamp": CREATED}, "spec": {"nodeName": "n"},
            "status": {"phase": phase, "reason": reason, "podIPs": [{"ip": "10.0.0.1"}]}});
        line("v1", "Pod", object)
    };
    assert_eq!(object("Running", ""), "x  0/0  Terminating  0  60m | 10.0.0.1  n  <none>  <none>");
    assert_eq!(object("Running", "NodeLost"), "x  0/0  Unknown  0  60m | 10.0.0.1  n  <none>  <none>");
    assert_eq!(object("Failed", ""), "x  0/0  Failed  0  60m | 10.0.0.1  n  <none>  <none>");
}

#[test]
fn workloads_show_their_counts() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}});
    let object = json!({
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        "status": {"replicas": 4, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2, "disruptionsAllowed": 1},
    });
    assert_eq!(line("apps/v1", "Deployment", object.clone()), "x  2/3  1  2  60m | a,b  i:1,j  app=web");
    assert_eq!(line("apps/v1", "ReplicaSet", object), "x  3  4  2  60m | a,b  i:1,j  app=web");
    let budget = json!({"spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 2}});
    assert_eq!(line("policy/v1", "PodDisruptionBudget", budget), "x  N/A  25%  2  60m");
    let revision = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}, "revision": 3});
    assert_eq!(line("apps/v1", "ControllerRevision", revision), "x  daemonset.apps/d  3  60m");
}

#[test]
fn services_show_ports_and_addresses() {
    let service = |spec: Value, status: Value| line("v1", "Service", json!({"spec": spec, "status": status}));
    assert_eq!(
        service(
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            json!({})
        ),
        "x  NodePort  10.0.0.1  <none>  80:30080/TCP,53/UDP  60m | app=web"
    );
    assert_eq!(
        service(json!({"type": "LoadBalancer"}), json!({})),
        "x  LoadBalancer  <none>  <pending>  <none>  60m | <none>"
    );
    assert_eq!(
        service(
            json!({"type": "LoadBalancer"}),
            json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"hostname": "h"}]}})
        ),
        "x  LoadBalancer  <none>  1.1.1.1,h  <none>  60m | <none>"
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "e"}), json!({})),
        "x  ExternalName  <none>  e  <none>  60m | <none>"
    );
    let endpoints =
        json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 1}, {"port": 2}]}]});
    assert_eq!(line("v1", "Endpoints", endpoints), "x  1.1.1.1:1,[::1]:1,1.1.1.1:2 + 1 more...  60m");
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.1.1.1"]}], "ports": [{"name": "a"}, {"port": 2}, {}]});
    assert_eq!(line("discovery.k8s.io/v1", "EndpointSlice", slice), "x  IPv4  a,2,*  1.1.1.1  60m");
    assert_eq!(line("discovery.k8s.io/v1", "EndpointSlice", json!({})), "x    <unset>  <unset>  60m");
}

#[test]
fn ingresses_show_hosts_and_addresses() {
    let rules = |hosts: &[&str]| -> Value { hosts.iter().map(|host| json!({"host": host})).collect() };
    let object = json!({
        "spec": {"ingressClassName": "haproxy", "tls": [{}], "rules": rules(&["a", "b", "c", "d", "e"])},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.20"}, {"ip": "192.0.2.10"}]}},
    });
    assert_eq!(
        line("networking.k8s.io/v1", "Ingress", object),
        "x  haproxy  a,b,c + 2 more...  192.0.2.10,19...  80, 443  60m"
    );
    assert_eq!(line("networking.k8s.io/v1", "Ingress", json!({"spec": {}})), "x  <none>  *    80  60m");
    let class = |parameters: Value| {
        let object = json!({"spec": {"controller": "a.io/b", "parameters": parameters}});
        line("networking.k8s.io/v1", "IngressClass", object)
    };
    assert_eq!(class(json!({"apiGroup": "k.io", "kind": "P", "name": "p"})), "x  a.io/b  P.k.io/p  60m");
    assert_eq!(class(json!({"kind": "P", "name": "p"})), "x  a.io/b  P/p  60m");
    assert_eq!(class(json!(null)), "x  a.io/b  <none>  60m");
}

#[test]
fn nodes_show_status_and_roles() {
    let object = json!({
        "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian", "kernelVersion": "6"},
        },
    });
    assert_eq!(
        line("v1", "Node", object),
        "x  Ready,SchedulingDisabled  edge,worker  60m  v1 | 10.0.0.1  <none>  Debian  6  <unknown>"
    );
    let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    assert!(line("v1", "Node", silent).starts_with("x  NotReady  <none>"));
    assert!(line("v1", "Node", json!({})).starts_with("x  Unknown"));
}

#[test]
fn storage_shows_its_short_words() {
    let volume = json!({"spec": {"capacity": {"storage": "1024Mi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "local", "volumeMode": "Filesystem"},
        "status": {"phase": "Bound"}});
    assert_eq!(
        line("v1", "PersistentVolume", volume),
        "x  1Gi  RWO,RWX  Retain  Bound  n/c  local  <unset>    60m | Filesystem"
    );
    let claim = json!({"spec": {"storageClassName": "local"}, "status": {"phase": "Pending"}});
    assert_eq!(line("v1", "PersistentVolumeClaim", claim), "x  Pending        local  <unset>  60m | <unset>");
    let class = json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
    assert_eq!(line("storage.k8s.io/v1", "StorageClass", class), "x (default)  p  Delete  Immediate  false  60m");
}

#[test]
fn the_small_kinds_have_their_columns() {
    assert_eq!(line("v1", "Secret", json!({"type": "Opaque", "data": {"a": "", "b": ""}})), "x  Opaque  2  60m");
    assert_eq!(line("v1", "ConfigMap", json!({"data": {"a": ""}, "binaryData": {"b": ""}})), "x  2  60m");
    assert_eq!(line("v1", "ServiceAccount", json!({})), "x  0  60m");
    assert_eq!(line("v1", "Namespace", json!({"status": {"phase": "Active"}})), "x  Active  60m");
    assert_eq!(line("coordination.k8s.io/v1", "Lease", json!({"spec": {"holderIdentity": "h"}})), "x  h  60m");
    let token = json!({"spec": {"maxUses": 3, "expirationTimestamp": "2026-01-01T00:00:00Z", "description": "web"},
        "status": {"nodes": [{"name": "n1"}]}});
    assert_eq!(line("drover.dev/v1alpha1", "JoinToken", token), "x  1/3  2026-01-01T00:00:00Z  web  60m");
    let key = json!({"spec": {"joinToken": "abc", "revoked": true}});
    assert_eq!(line("drover.dev/v1alpha1", "NodeKey", key), "x  abc  true  60m");
    assert_eq!(line("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 5})), "x  5  false  60m");
    let binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
    assert_eq!(line("rbac.authorization.k8s.io/v1", "RoleBinding", binding), "x  Role/r  60m | u  g  n/s");
    assert_eq!(line("rbac.authorization.k8s.io/v1", "Role", json!({})), "x  2026-01-01T00:00:00Z");
}

#[test]
fn events_show_when_and_what_in_both_shapes() {
    let old = json!({"type": "Normal", "reason": "Pulled", "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        "source": {"component": "kubelet", "host": "n"}, "message": "done\n", "count": 4,
        "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:00Z"});
    assert_eq!(
        line("v1", "Event", old),
        "60s  Normal  Pulled  pod/p  done | spec.containers{a}  kubelet, n  10m  4  x"
    );
    let new = json!({"type": "Warning", "reason": "R", "regarding": {"kind": "Node"}, "note": "n", "eventTime": "2026-01-01T00:59:59.000000Z", "reportingController": "c"});
    assert_eq!(line("events.k8s.io/v1", "Event", new), "1s  Warning  R  node  n |   c  1s  1  x");
}

proptest! {
    #[test]
    fn every_column_gets_a_cell_whatever_the_object(object in arb_json(), now: i64) {
        for kind in kinds::all() {
            prop_assert_eq!(cells(kind, &object, now).len(), columns(kind).len(), "{}", kind.kind);
        }
    }
}
