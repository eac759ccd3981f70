//! Objects as real clients and Drover itself write them: nothing of them may be refused.

use super::*;

fn accepts(api_version: &str, name: &str, object: Value) {
    let kind = kind(api_version, name);
    let object = completed(kind, object);
    assert_eq!(lines(&create(kind, &object)), "", "{name}");
    assert_eq!(lines(&update(kind, &object, &object)), "", "{name}");
}

#[test]
fn a_pod_with_a_service_account_token_is_accepted() {
    accepts(
        "v1",
        "Pod",
        json!({"spec": {
            "containers": [{
                "name": "web", "image": "registry:5000/web@sha256:0", "ports": [{"name": "http", "containerPort": 8080}],
                "volumeMounts": [{"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
                "readinessProbe": {"grpc": {"port": 8080}}, "livenessProbe": {"exec": {"command": ["true"]}},
                "startupProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 3}}, "postStart": {"exec": {"command": ["true"]}}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1}, "requests": {"cpu": "500m"}},
                "env": [
                    {"name": "A", "value": ""}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                ],
                "envFrom": [{"prefix": "P_", "secretRef": {"name": "s", "optional": true}}],
                "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}, "allowPrivilegeEscalation": false},
            }],
            "initContainers": [{"name": "proxy", "image": "p", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}],
            "volumes": [{"name": "kube-api-access-abcde", "projected": {"sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}, {"operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]},
            },
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
            "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"], "searches": ["svc.cluster.local."], "options": [{"name": "ndots", "value": "5"}]},
            "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["foo.local"]}],
            "serviceAccountName": "default", "priorityClassName": "system-cluster-critical", "priority": 2_000_000_000,
        }}),
    );
}

#[test]
fn the_objects_of_the_control_plane_are_accepted() {
    accepts(
        "v1",
        "Service",
        json!({"metadata": {"name": "kubernetes"}, "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"name": "https", "port": 443, "targetPort": 6443}]}}),
    );
    accepts(
        "v1",
        "Node",
        json!({
            "metadata": {"labels": {"kubernetes.io/hostname": "n", "node-role.kubernetes.io/worker": ""}},
            "spec": {"podCIDR": "10.128.0.0/22", "podCIDRs": ["10.128.0.0/22"], "taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "2", "memory": "8127528Ki", "pods": "110", "ephemeral-storage": "100Gi"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        }),
    );
    accepts(
        "v1",
        "PersistentVolume",
        json!({
            "metadata": {"finalizers": ["kubernetes.io/pv-protection", "drover.dev/volume"]},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": "drover.dev/local", "volumeHandle": "pvc-1"}, "claimRef": {"namespace": "default", "name": "data"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}}},
        }),
    );
    accepts(
        "storage.k8s.io/v1",
        "StorageClass",
        json!({"provisioner": "drover.dev/local", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    accepts(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"spec": {"holderIdentity": "n", "leaseDurationSeconds": 40, "leaseTransitions": 0}}),
    );
    accepts(
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        json!({"metadata": {"name": "system:discovery"}, "rules": [{"nonResourceURLs": ["/api"], "verbs": ["get"]}]}),
    );
    accepts(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        json!({"metadata": {"name": "cluster-admin"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [{"kind": "Group", "name": "system:masters"}]}),
    );
    accepts("v1", "Namespace", json!({"metadata": {"name": "kube-system"}}));
    accepts("v1", "Namespace", json!({"spec": {"finalizers": []}}));
    accepts(
        "v1",
        "PersistentVolumeClaim",
        json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    accepts(
        "v1",
        "Event",
        json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "Pulled", "type": "Normal", "source": {"component": "drover-agent"}}),
    );
    accepts(
        "events.k8s.io/v1",
        "Event",
        json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "drover.dev/scheduler", "reportingInstance": "a", "action": "Binding", "reason": "Scheduled", "type": "Normal", "regarding": {"kind": "Pod"}}),
    );
    accepts("apps/v1", "ControllerRevision", json!({"revision": 1, "data": {"spec": {}}}));
    accepts(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.128.0.2"], "nodeName": "n", "conditions": {"ready": true}}], "ports": [{"name": "", "port": 80}]}),
    );
}
