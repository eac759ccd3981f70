//! Services, Endpoints and EndpointSlices.

use super::*;

#[test]
fn services_are_checked() {
    let check = |spec: Value, wanted: Expect| super::check("v1", "Service", json!({"spec": spec}), wanted);
    check(json!({"ports": [{"port": 80}]}), expect![[r#""#]]);
    check(
        json!({}),
        expect![[r#"
        FieldValueRequired spec.ports: Required value
    "#]],
    );
    check(json!({"clusterIP": "None"}), expect![[r#""#]]);
    check(
        json!({"ports": [{"port": 0}, {"port": 65536, "name": "a"}, {"port": 80, "name": "a", "targetPort": "UPPER"}]}),
        expect![[r#"
        FieldValueRequired spec.ports[0].name: Required value
        FieldValueInvalid spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        FieldValueInvalid spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
        FieldValueInvalid spec.ports[1].port: Invalid value: 65536: must be between 1 and 65535, inclusive
        FieldValueInvalid spec.ports[1].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive
        FieldValueInvalid spec.ports[2].targetPort: Invalid value: "UPPER": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
        FieldValueInvalid spec.ports[2].targetPort: Invalid value: "UPPER": must contain at least one letter (a-z)
        FieldValueDuplicate spec.ports[2].name: Duplicate value: "a"
    "#]],
    );
    check(
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        expect![[r#"
        FieldValueForbidden spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
    "#]],
    );
}

#[test]
fn the_type_of_a_service_says_what_else_it_may_have() {
    let check = |spec: Value, wanted: Expect| super::check("v1", "Service", json!({"spec": spec}), wanted);
    check(
        json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80, "name": "a", "nodePort": 3}, {"port": 80, "name": "b", "nodePort": 3}]}),
        expect![[r#"
        FieldValueDuplicate spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}
        FieldValueDuplicate spec.ports[1].nodePort: Duplicate value: 3
        FieldValueInvalid spec.clusterIP: Invalid value: "None": may not be set to 'None' for NodePort services
    "#]],
    );
    check(
        json!({"type": "ExternalName", "clusterIP": "1.2.3.4"}),
        expect![[r#"
        FieldValueForbidden spec.clusterIP: Forbidden: may not be set for ExternalName services
        FieldValueRequired spec.externalName: Required value
    "#]],
    );
    check(
        json!({"type": "Magic", "ports": [{"port": 80, "protocol": "ICMP"}], "sessionAffinity": "Cookie"}),
        expect![[r#"
        FieldValueNotSupported spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
        FieldValueNotSupported spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
        FieldValueNotSupported spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"
    "#]],
    );
    check(
        json!({"ports": [{"port": 80}], "externalIPs": ["1.2.3.4"], "clusterIP": "10.0.0.300", "externalTrafficPolicy": "Local"}),
        expect![[r#"
        FieldValueInvalid spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
        FieldValueInvalid spec.clusterIP: Invalid value: "10.0.0.300": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        FieldValueForbidden spec.externalIPs: Forbidden: external IPs are not supported
    "#]],
    );
    check(
        json!({"ports": [{"port": 80}], "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
        expect![[r#"
        FieldValueInvalid spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400
    "#]],
    );
    super::check(
        "v1",
        "Service",
        json!({"metadata": {"name": "1web"}, "spec": {"ports": [{"port": 80}]}}),
        expect![[r#"
        FieldValueInvalid metadata.name: Invalid value: "1web": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
    "#]],
    );
}

#[test]
fn a_cluster_address_is_kept() {
    let service = |ip: &str| json!({"spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80}]}});
    check_update(
        "v1",
        "Service",
        service("10.0.0.1"),
        service("10.0.0.2"),
        expect![[r#"
        FieldValueInvalid spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set
    "#]],
    );
    let mut silent = service("10.0.0.1");
    silent["spec"] = json!({"ports": [{"port": 80}]});
    check_update("v1", "Service", service("10.0.0.1"), silent, expect![[r#""#]]);
}

#[test]
fn node_ports_lie_in_the_range() {
    let service = json!({"spec": {"ports": [{"nodePort": 80}, {"nodePort": 30000}]}});
    expect![[r#"
        FieldValueInvalid spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
    "#]].assert_eq(&lines(&node_ports(&service, &(30_000..=32_767))));
}

#[test]
fn endpoints_and_slices_are_checked() {
    check(
        "v1",
        "Endpoints",
        json!({"subsets": [{}, {"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}], "ports": [{"port": 0}, {"port": 1}]}]}),
        expect![[r#"
        FieldValueRequired subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
        FieldValueInvalid subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        FieldValueInvalid subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        FieldValueRequired subsets[1].ports[0].name: Required value
        FieldValueInvalid subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        FieldValueRequired subsets[1].ports[1].name: Required value
    "#]],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}, {"addresses": []}, {"addresses": ["169.254.169.254"]}], "ports": [{"port": 1}, {"port": 70000}]}),
        expect![[r#"
            FieldValueInvalid endpoints[0].addresses[0]: Invalid value: "::1": must be an IPv4 address
            FieldValueRequired endpoints[1].addresses: Required value: must contain at least 1 address
            FieldValueInvalid endpoints[2].addresses[0]: Invalid value: "169.254.169.254": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            FieldValueDuplicate ports[1].name: Duplicate value: ""
            FieldValueInvalid ports[1].port: Invalid value: 70000: must be between 1 and 65535, inclusive
        "#]],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"endpoints": []}),
        expect![[r#"
        FieldValueRequired addressType: Required value
    "#]],
    );
}

#[test]
fn ingresses_are_checked() {
    let service = json!({"service": {"name": "web", "port": {"number": 80}}});
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {}}),
        expect![[r#"
        FieldValueInvalid spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified
    "#]],
    );
    let path = |path: &str, kind: &str| json!({"path": path, "pathType": kind, "backend": service});
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {
            "ingressClassName": "No",
            "tls": [{"hosts": ["*"], "secretName": "_"}],
            "rules": [
                {"host": "192.0.2.1"},
                {"host": "*.X.org"},
                {"host": "x.org", "http": {"paths": []}},
                {"http": {"paths": [
                    path("a", "Prefix"), path("/a//b%2f", "Exact"), path("/a/..", "Prefix"), path("a", "ImplementationSpecific"),
                    path("/", "Regex"), path("/", ""), path("/a b", "Prefix"),
                ]}},
            ],
        }}),
        expect![[r#"
            FieldValueInvalid spec.rules[0].host: Invalid value: "192.0.2.1": must be a DNS name, not an IP address
            FieldValueInvalid spec.rules[1].host: Invalid value: "*.X.org": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com')
            FieldValueRequired spec.rules[2].http.paths: Required value
            FieldValueInvalid spec.rules[3].http.paths[0].path: Invalid value: "a": must be an absolute path
            FieldValueInvalid spec.rules[3].http.paths[1].path: Invalid value: "/a//b%2f": must not contain '//'
            FieldValueInvalid spec.rules[3].http.paths[1].path: Invalid value: "/a//b%2f": must not contain '%2f'
            FieldValueInvalid spec.rules[3].http.paths[2].path: Invalid value: "/a/..": cannot end with '/..'
            FieldValueInvalid spec.rules[3].http.paths[3].path: Invalid value: "a": must be an absolute path
            FieldValueNotSupported spec.rules[3].http.paths[4].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"
            FieldValueRequired spec.rules[3].http.paths[5].pathType: Required value: pathType must be specified
            FieldValueInvalid spec.rules[3].http.paths[6].path: Invalid value: "/a b": must consist of visible ASCII characters without '"', '\', '#' and '?'
            FieldValueInvalid spec.tls[0].hosts[0]: Invalid value: "*": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueInvalid spec.tls[0].secretName: Invalid value: "_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueInvalid spec.ingressClassName: Invalid value: "No": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]],
    );
}

#[test]
fn backends_of_ingresses_are_checked() {
    let backend = |backend: Value| json!({"spec": {"defaultBackend": backend}});
    for (wrong, expected) in [
        (
            json!({}),
            expect![[r#"
            FieldValueInvalid spec.defaultBackend: Invalid value: "": resource or service backend is required
        "#]],
        ),
        (
            json!({"service": {"name": "1", "port": {"name": "http", "number": 80}}}),
            expect![[r#"
            FieldValueInvalid spec.defaultBackend.service.name: Invalid value: "1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            FieldValueInvalid spec.defaultBackend: Invalid value: "": cannot set both port name & port number
        "#]],
        ),
        (
            json!({"service": {"name": "", "port": {}}}),
            expect![[r#"
            FieldValueRequired spec.defaultBackend.service.name: Required value
            FieldValueRequired spec.defaultBackend: Required value: port name or number is required
        "#]],
        ),
        (
            json!({"service": {"name": "web", "port": {"number": 70000}}}),
            expect![[r#"
            FieldValueInvalid spec.defaultBackend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive
        "#]],
        ),
        (
            json!({"service": {"name": "web", "port": {"name": "-"}}}),
            expect![[r#"
            FieldValueInvalid spec.defaultBackend.service.port.name: Invalid value: "-": must contain at least one letter (a-z)
            FieldValueInvalid spec.defaultBackend.service.port.name: Invalid value: "-": must not begin or end with a hyphen
        "#]],
        ),
        (
            json!({"service": {"name": "web"}, "resource": {"kind": "B", "name": "b"}}),
            expect![[r#"
            FieldValueInvalid spec.defaultBackend: Invalid value: "": cannot set both resource and service backends
        "#]],
        ),
        (
            json!({"resource": {"kind": "", "name": ""}}),
            expect![[r#"
            FieldValueRequired spec.defaultBackend.resource.kind: Required value
            FieldValueRequired spec.defaultBackend.resource.name: Required value
        "#]],
        ),
    ] {
        check("networking.k8s.io/v1", "Ingress", backend(wrong), expected);
    }
}

#[test]
fn annotations_of_ours_and_the_class_of_an_ingress_are_checked() {
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({
            "metadata": {"annotations": {
                "ingress.drover.dev/balance": "fair", "ingress.drover.dev/colour": "red", "nginx.org/x": "y",
                "kubernetes.io/ingress.class": "nginx",
            }},
            "spec": {"ingressClassName": "haproxy", "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
        }),
        expect![[r#"
            FieldValueInvalid metadata.annotations[ingress.drover.dev/balance]: Invalid value: "fair": must be roundrobin, leastconn, random or source
            FieldValueInvalid metadata.annotations[ingress.drover.dev/colour]: Invalid value: "red": is not known: there are ingress.drover.dev/{balance, health-check, https-redirect, max-body, redirect, rewrite, timeout, timeout-connect, timeout-tunnel}
            FieldValueInvalid metadata.annotations[kubernetes.io/ingress.class]: Invalid value: "nginx": can not be set when the class field is also set
        "#]],
    );
}

#[test]
fn ingress_classes_are_checked() {
    let class =
        |controller: &str, parameters: Value| json!({"spec": {"controller": controller, "parameters": parameters}});
    for (object, expected) in [
        (
            class("", json!(null)),
            expect![[r#"
            FieldValueRequired spec.controller: Required value
        "#]],
        ),
        (
            class("haproxy", json!(null)),
            expect![[r#"
            FieldValueInvalid spec.controller: Invalid value: "haproxy": must be a domain-prefixed path (such as "acme.io/foo")
        "#]],
        ),
        (
            class("a_b/ c", json!({"kind": "", "name": "a/b", "namespace": "n"})),
            expect![[r#"
            FieldValueInvalid spec.controller: Invalid value: "a_b/ c": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            FieldValueInvalid spec.controller: Invalid value: "a_b/ c": Invalid path
            FieldValueRequired spec.parameters.kind: Required value: kind is required
            FieldValueInvalid spec.parameters.name: Invalid value: "a/b": may not contain '/'
            FieldValueForbidden spec.parameters.namespace: Forbidden: parameters.namespace is forbidden when parameters.scope is set to 'Cluster'
        "#]],
        ),
        (
            class("a.io/b", json!({"kind": "P", "name": "p", "scope": "Namespace"})),
            expect![[r#"
            FieldValueRequired spec.parameters.namespace: Required value: parameters.namespace is required when parameters.scope is set to 'Namespace'
        "#]],
        ),
        (
            class("a.io/b", json!({"kind": "P", "name": "p", "scope": "World"})),
            expect![[r#"
            FieldValueNotSupported spec.parameters.scope: Unsupported value: "World": supported values: "Cluster", "Namespace"
        "#]],
        ),
    ] {
        check("networking.k8s.io/v1", "IngressClass", object, expected);
    }
    check_update(
        "networking.k8s.io/v1",
        "IngressClass",
        class("a.io/b", json!(null)),
        class("a.io/c", json!(null)),
        expect![[r#"
            FieldValueInvalid spec.controller: Invalid value: "a.io/c": field is immutable
        "#]],
    );
}
