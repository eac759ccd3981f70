//! Pods: what creation and change refuse.

use super::*;

fn pod(spec: Value) -> Value {
    json!({"spec": spec})
}

/// A pod of one good container, with fields of the container replaced.
fn with_container(fields: Value) -> Value {
    let mut container = json!({"name": "a", "image": "web:1"});
    for (field, value) in fields.as_object().expect("the case is an object") {
        container[field] = value.clone();
    }
    pod(json!({"containers": [container]}))
}

fn check_pod(object: Value, wanted: Expect) {
    check("v1", "Pod", object, wanted);
}

#[test]
fn a_pod_needs_containers_with_names_and_images() {
    check_pod(
        pod(json!({})),
        expect![[r#"
        FieldValueRequired spec.containers: Required value
    "#]],
    );
    check_pod(
        pod(json!({"containers": [{}, {"name": "a", "image": "x"}, {"name": "a", "image": " x"}]})),
        expect![[r#"
        FieldValueRequired spec.containers[0].name: Required value
        FieldValueRequired spec.containers[0].image: Required value
        FieldValueDuplicate spec.containers[2].name: Duplicate value: "a"
        FieldValueInvalid spec.containers[2].image: Invalid value: " x": must not have leading or trailing whitespace
    "#]],
    );
    check_pod(
        pod(json!({"containers": [{"name": "A_b", "image": "x", "imagePullPolicy": "Sometimes"}]})),
        expect![[r#"
            FieldValueInvalid spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            FieldValueNotSupported spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
        "#]],
    );
}

#[test]
fn ports_are_numbers_in_range_and_names_are_unique() {
    check_pod(
        with_container(json!({"ports": [
            {"containerPort": 0}, {"containerPort": 65536}, {"containerPort": 80, "name": "Web"},
            {"containerPort": 81, "name": "web", "hostPort": 70000, "protocol": "ICMP"}, {"containerPort": 82, "name": "web"},
            {"containerPort": 83, "hostPort": 8083}, {"containerPort": 84, "hostPort": 8083},
        ]})),
        expect![[r#"
            FieldValueRequired spec.containers[0].ports[0].containerPort: Required value
            FieldValueInvalid spec.containers[0].ports[1].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive
            FieldValueInvalid spec.containers[0].ports[2].name: Invalid value: "Web": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            FieldValueInvalid spec.containers[0].ports[3].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            FieldValueNotSupported spec.containers[0].ports[3].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            FieldValueDuplicate spec.containers[0].ports[4].name: Duplicate value: "web"
            FieldValueDuplicate spec.containers[0].ports[6].hostPort: Duplicate value: "TCP//8083"
        "#]],
    );
}

#[test]
fn environment_sources_are_exclusive() {
    check_pod(
        with_container(json!({
            "env": [
                {"name": ""}, {"name": "A=B", "value": "x"},
                {"name": "C", "value": "x", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                {"name": "D", "valueFrom": {}},
                {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "../k"}, "fieldRef": {"fieldPath": "spec.image"}}},
                {"name": "F", "valueFrom": {"resourceFieldRef": {"resource": "limits.disk"}}},
            ],
            "envFrom": [{}, {"configMapRef": {}}],
        })),
        expect![[r#"
            FieldValueRequired spec.containers[0].env[0].name: Required value
            FieldValueInvalid spec.containers[0].env[1].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '=' (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '^[ -<>-~]+$')
            FieldValueInvalid spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            FieldValueInvalid spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef`
            FieldValueNotSupported spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.image": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
            FieldValueInvalid spec.containers[0].env[4].valueFrom.secretKeyRef.key: Invalid value: "../k": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            FieldValueInvalid spec.containers[0].env[4].valueFrom.secretKeyRef.key: Invalid value: "../k": must not start with '..'
            FieldValueInvalid spec.containers[0].env[4].valueFrom: Invalid value: "": may not have more than one field specified at a time
            FieldValueNotSupported spec.containers[0].env[5].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.disk": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
            FieldValueInvalid spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            FieldValueRequired spec.containers[0].envFrom[1].configMapRef.name: Required value
        "#]],
    );
}

#[test]
fn mounts_refer_to_volumes_and_stay_inside_them() {
    let mut object = with_container(json!({"volumeMounts": [
        {"name": "data", "mountPath": "/a"}, {"name": "none", "mountPath": "/a"}, {"name": "data", "mountPath": "/b", "subPath": "../x"},
        {"name": "data", "mountPath": "", "subPath": "/abs", "subPathExpr": "$(A)"},
    ]}));
    object["spec"]["volumes"] = json!([
        {"name": "data", "emptyDir": {}}, {"name": "data", "hostPath": {"path": "/a/../b"}}, {"name": "Bad", "configMap": {"defaultMode": 512}},
        {"name": "two", "emptyDir": {}, "secret": {"secretName": "s"}},
        {"name": "files", "secret": {"items": [{"key": "k", "path": "..x"}]}},
    ]);
    check_pod(
        object,
        expect![[r#"
        FieldValueInvalid spec.volumes[1].hostPath.path: Invalid value: "/a/../b": must not contain '..'
        FieldValueDuplicate spec.volumes[1].name: Duplicate value: "data"
        FieldValueRequired spec.volumes[2].configMap.name: Required value
        FieldValueInvalid spec.volumes[2].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
        FieldValueInvalid spec.volumes[2].name: Invalid value: "Bad": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        FieldValueForbidden spec.volumes[3].secret: Forbidden: may not specify more than 1 volume type
        FieldValueRequired spec.volumes[4].secret.secretName: Required value
        FieldValueInvalid spec.volumes[4].secret.items[0].path: Invalid value: "..x": must not start with '..'
        FieldValueNotFound spec.containers[0].volumeMounts[1].name: Not found: "none"
        FieldValueInvalid spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
        FieldValueInvalid spec.containers[0].volumeMounts[2].subPath: Invalid value: "../x": must not contain '..'
        FieldValueRequired spec.containers[0].volumeMounts[3].mountPath: Required value
        FieldValueInvalid spec.containers[0].volumeMounts[3].subPath: Invalid value: "/abs": must be a relative path
        FieldValueInvalid spec.containers[0].volumeMounts[3].subPathExpr: Invalid value: "$(A)": subPathExpr and subPath are mutually exclusive
    "#]],
    );
}

#[test]
fn probes_have_one_handler_and_sane_numbers() {
    check_pod(
        with_container(json!({
            "livenessProbe": {"successThreshold": 2, "httpGet": {"port": 0}},
            "readinessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 80}, "periodSeconds": -1, "terminationGracePeriodSeconds": 3},
            "startupProbe": {"failureThreshold": 3},
            "lifecycle": {"preStop": {"exec": {}}},
        })),
        expect![[r#"
            FieldValueRequired spec.containers[0].lifecycle.preStop.exec.command: Required value
            FieldValueInvalid spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
            FieldValueInvalid spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            FieldValueForbidden spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            FieldValueInvalid spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            FieldValueInvalid spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes
            FieldValueRequired spec.containers[0].startupProbe: Required value: must specify a handler type
        "#]],
    );
}

#[test]
fn requests_stay_below_limits() {
    check_pod(
        with_container(json!({"resources": {
            "requests": {"cpu": "2", "memory": "-1Mi", "disk": "1", "acme.io/gpu": "2"},
            "limits": {"cpu": "500m", "acme.io/gpu": "1", "memory": "lots"},
        }})),
        expect![[r#"
            FieldValueInvalid spec.containers[0].resources.limits[memory]: Invalid value: "lots": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            FieldValueInvalid spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource type or fully qualified
            FieldValueInvalid spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers
            FieldValueInvalid spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0
            FieldValueInvalid spec.containers[0].resources.requests: Invalid value: "2": must be equal to acme.io/gpu limit of 1
            FieldValueInvalid spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 500m
        "#]],
    );
}

#[test]
fn the_rest_of_the_spec_is_checked() {
    check_pod(
        pod(json!({
            "containers": [{"name": "a", "image": "x", "securityContext": {"runAsUser": -1, "privileged": true, "allowPrivilegeEscalation": false}}],
            "restartPolicy": "Sometimes", "dnsPolicy": "None", "terminationGracePeriodSeconds": -1, "activeDeadlineSeconds": 0,
            "nodeSelector": {"a b": "c"}, "hostname": "a.b", "serviceAccountName": "A",
            "securityContext": {"fsGroup": -1, "seccompProfile": {"type": "Localhost"}},
            "tolerations": [{"operator": "Equal"}, {"key": "k", "operator": "Exists", "value": "v"}, {"key": "k", "effect": "Never", "tolerationSeconds": 1}],
            "hostAliases": [{"ip": "1.2.3", "hostnames": ["A"]}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {"matchExpressions": [{"key": "k", "operator": "Like"}]}}]},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}},
            "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "Maybe"}],
        })),
        expect![[r#"
            FieldValueInvalid spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            FieldValueInvalid spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"runAsUser":-1}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            FieldValueNotSupported spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
            FieldValueInvalid spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            FieldValueInvalid spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive
            FieldValueRequired spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
            FieldValueRequired spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
            FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
            FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator
            FieldValueRequired spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
            FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            FieldValueInvalid spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            FieldValueInvalid spec.tolerations[1].operator: Invalid value: {"key":"k","operator":"Exists","value":"v"}: value must be empty when `operator` is 'Exists'
            FieldValueInvalid spec.tolerations[2].effect: Invalid value: "Never": effect must be 'NoExecute' when `tolerationSeconds` is set
            FieldValueNotSupported spec.tolerations[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            FieldValueInvalid spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            FieldValueNotSupported spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values: "DoNotSchedule", "ScheduleAnyway"
            FieldValueRequired spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
            FieldValueInvalid spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            FieldValueInvalid spec.hostAliases[0].hostnames[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueInvalid spec.serviceAccountName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueInvalid spec.hostname: Invalid value: "a.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            FieldValueInvalid spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0
            FieldValueInvalid spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
        "#]],
    );
    check_pod(
        pod(
            json!({"containers": [{"name": "a", "image": "x"}], "dnsConfig": {"nameservers": ["1.1.1.1", "x", "1.1.1.2", "1.1.1.3"], "options": [{}]}}),
        ),
        expect![[r#"
            FieldValueInvalid spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","x","1.1.1.2","1.1.1.3"]: must not have more than 3 nameservers
            FieldValueInvalid spec.dnsConfig.nameservers[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            FieldValueRequired spec.dnsConfig.options[0]: Required value: must not be empty
        "#]],
    );
}

#[test]
fn init_containers_may_be_sidecars() {
    check_pod(
        pod(json!({
            "containers": [{"name": "a", "image": "x", "restartPolicy": "Always"}],
            "initContainers": [
                {"name": "a", "image": "x"},
                {"name": "b", "image": "x", "restartPolicy": "Never"},
                {"name": "c", "image": "x", "readinessProbe": {"tcpSocket": {"port": 1}}},
                {"name": "d", "image": "x", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 1}}},
            ],
        })),
        expect![[r#"
            FieldValueForbidden spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers
            FieldValueDuplicate spec.initContainers[0].name: Duplicate value: "a"
            FieldValueNotSupported spec.initContainers[1].restartPolicy: Unsupported value: "Never": supported values: "Always"
            FieldValueForbidden spec.initContainers[2].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
        "#]],
    );
}

#[test]
fn hostile_pods_cost_little_and_are_refused() {
    let env: Vec<Value> = (0..100_000).map(|index| json!({"name": format!("={index}")})).collect();
    let tolerations: Vec<Value> = (0..20_000).map(|_| json!({"operator": "Like"})).collect();
    let mut object = with_container(json!({"env": env}));
    object["spec"]["tolerations"] = tolerations.into();
    let kind = kind("v1", "Pod");
    let object = completed(kind, object);
    assert_eq!(create(kind, &object).len(), 100);
    assert_eq!(update(kind, &object, &object).len(), 100);
}

#[test]
fn little_may_change_in_a_pod() {
    let old = with_container(json!({"command": ["a"]}));
    let change = |new: Value, wanted: Expect| check_update("v1", "Pod", old.clone(), new, wanted);
    change(with_container(json!({"command": ["a"], "image": "web:2"})), expect![[r#""#]]);
    change(
        with_container(json!({"command": ["b"]})),
        expect![[r#"
        FieldValueForbidden spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        changed: spec.containers[0]
    "#]],
    );
    let mut moved = old.clone();
    moved["spec"]["nodeName"] = "n".into();
    change(
        moved,
        expect![[r#"
        FieldValueForbidden spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        changed: spec.nodeName
    "#]],
    );
    change(
        pod(json!({"containers": [{"name": "a", "image": "web:1"}, {"name": "b", "image": "x"}]})),
        expect![[r#"
        FieldValueForbidden spec.containers: Forbidden: pod updates may not add or remove containers
    "#]],
    );
    let mut tolerant = old.clone();
    tolerant["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    change(tolerant.clone(), expect![[r#""#]]);
    check_update(
        "v1",
        "Pod",
        tolerant,
        old.clone(),
        expect![[r#"
        FieldValueForbidden spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
    "#]],
    );
    let mut limited = old.clone();
    limited["spec"]["activeDeadlineSeconds"] = 10.into();
    change(limited.clone(), expect![[r#""#]]);
    check_update(
        "v1",
        "Pod",
        limited,
        old.clone(),
        expect![[r#"
        FieldValueInvalid spec.activeDeadlineSeconds: Invalid value: "": must not update from a positive integer to nil value
    "#]],
    );
}

#[test]
fn a_finished_container_stays_finished() {
    let object = |state: Value| {
        json!({"metadata": {"name": "x", "namespace": "default"}, "spec": {"restartPolicy": "Never"},
        "status": {"containerStatuses": [{"name": "a", "state": state}]}})
    };
    let kind = kind("v1", "Pod");
    let list = update_status(kind, &object(json!({"running": {}})), &object(json!({"terminated": {"exitCode": 0}})));
    expect![[r#"
        FieldValueForbidden status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
    "#]].assert_eq(&lines(&list));
}

#[test]
fn expressions_of_placement_are_checked_where_they_are_written() {
    let with = |env: Value, annotations: Value| {
        json!({"metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "c", "image": "i", "env": env}]}})
    };
    check(
        "v1",
        "Pod",
        with(
            json!([{"name": "constraint:region", "value": "=us*"}]),
            json!({"com.docker.swarm.affinities": "[\"image==~redis\"]"}),
        ),
        expect![[r#""#]],
    );
    check(
        "v1",
        "Pod",
        with(json!([{"name": "constraint:region", "value": "us*"}]), json!({})),
        expect![[r#"
        FieldValueInvalid spec.containers: Invalid value: "environment entry \"constraint:region=us*\"": One of operator ==, != is expected
    "#]],
    );
    check(
        "v1",
        "Pod",
        with(json!([]), json!({"com.docker.swarm.constraints": "region==us"})),
        expect![[r#"
        FieldValueInvalid metadata.annotations: Invalid value: "annotation com.docker.swarm.constraints": must be a JSON array of expressions, such as ["region==us*"]
    "#]],
    );
}
