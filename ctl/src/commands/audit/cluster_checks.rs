//! CIS section 5: roles, pods, network policies, secrets and namespaces. Pure.

use drover_api::object::{at, name, namespace};
use serde_json::Value;

use super::{
    checks::{Check, Outcome, Verdict, names, none_of, pass},
    rbac,
    world::{World, is_system, items, name_of},
};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// In the order of the benchmark.
pub(super) const CHECKS: &[Check] = &[
    Check { id: "5.1.1", title: "cluster-admin only where needed", decide: |world| held(world, "cluster-admin") },
    Check { id: "5.1.2", title: "few may read secrets", decide: |world| held(world, "read secrets") },
    Check { id: "5.1.3", title: "no wildcards in roles", decide: wildcards },
    Check { id: "5.1.4", title: "few may create pods", decide: |world| held(world, "create pods") },
    Check { id: "5.1.5", title: "default service accounts unused", decide: default_accounts },
    Check { id: "5.1.6", title: "tokens only where needed", decide: mounted_tokens },
    Check { id: "5.1.7", title: "system:masters is not bound", decide: masters },
    Check {
        id: "5.1.8",
        title: "few may bind, impersonate or escalate",
        decide: |world| held(world, "bind, impersonate or escalate"),
    },
    Check { id: "5.1.9", title: "few may make volumes", decide: |world| held(world, "create volumes") },
    Check { id: "5.1.10", title: "nobody may use nodes/proxy", decide: |world| held(world, "nodes/proxy") },
    Check { id: "5.1.13", title: "few may make tokens", decide: |world| held(world, "create tokens") },
    Check { id: "5.2.1", title: "namespaces enforce a pod security level", decide: pod_security },
    Check { id: "5.2.2", title: "no privileged containers", decide: privileged },
    Check { id: "5.2.3-5.2.5", title: "no host namespaces", decide: host_namespaces },
    Check { id: "5.2.6,5.2.7", title: "containers run as non-root without escalation", decide: root },
    Check { id: "5.2.8,5.2.9", title: "no added capabilities", decide: capabilities },
    Check { id: "5.2.11,5.2.12", title: "no host paths and host ports", decide: host_access },
    Check { id: "5.3.2", title: "every namespace has a network policy", decide: network_policies },
    Check { id: "5.4.1", title: "secrets as files, not in the environment", decide: secrets_in_environment },
    Check { id: "5.5.1", title: "images pinned by digest", decide: images },
    Check { id: "5.7.4", title: "nothing runs in the default namespace", decide: default_namespace },
];

fn held(world: &World, right: &str) -> Outcome {
    let holders = rbac::holders(world);
    let found = holders.iter().filter(|holder| holder.right == right && !holder.is_builtin());
    none_of(Verdict::Warn, "holders", found.map(|holder| format!("{} ({})", holder.subject, holder.scope)).collect())
}

fn wildcards(world: &World) -> Outcome {
    let builtin = |role: &Value| {
        at(role, &["metadata", "labels", "kubernetes.io/bootstrapping"]).is_some() || name(role).starts_with("system:")
    };
    let wild = |role: &Value| {
        let any = |rule: &Value, key: &str| items(rule, &[key]).any(|value| value == "*");
        items(role, &["rules"]).any(|rule| any(rule, "verbs") || any(rule, "resources") || any(rule, "apiGroups"))
    };
    let roles = world.roles.iter().chain(&world.cluster_roles);
    none_of(Verdict::Warn, "roles with wildcards", names(roles, |role| !builtin(role) && wild(role)))
}

fn default_accounts(world: &World) -> Outcome {
    let default = |pod: &Value| matches!(pod["spec"]["serviceAccountName"].as_str(), None | Some("" | "default"));
    let tokenless = |pod: &Value| pod["spec"]["automountServiceAccountToken"] == false;
    let bad = |pod: &Value| !is_system(pod) && default(pod) && !tokenless(pod);
    none_of(Verdict::Warn, "pods with the token of a default service account", names(&world.pods, bad))
}

fn mounted_tokens(world: &World) -> Outcome {
    let bad = |account: &Value| {
        !is_system(account) && name(account) == "default" && account["automountServiceAccountToken"] != false
    };
    none_of(Verdict::Warn, "default service accounts that mount a token", names(&world.service_accounts, bad))
}

fn masters(world: &World) -> Outcome {
    let bound = |binding: &Value| items(binding, &["subjects"]).any(|subject| subject["name"] == "system:masters");
    let bindings = world.cluster_role_bindings.iter().chain(&world.role_bindings);
    let own = |binding: &Value| name(binding) == "cluster-admin";
    none_of(Verdict::Warn, "bindings", names(bindings, |binding| bound(binding) && !own(binding)))
}

fn pod_security(world: &World) -> Outcome {
    let level =
        |object: &Value| at(object, &["metadata", "labels", ENFORCE]).and_then(Value::as_str).map(str::to_owned);
    let bad = |object: &Value| {
        !name(object).starts_with("kube-") && !matches!(level(object).as_deref(), Some("baseline" | "restricted"))
    };
    none_of(Verdict::Warn, "namespaces without baseline or restricted", names(&world.namespaces, bad))
}

fn privileged(world: &World) -> Outcome {
    let bad = |container: &Value| container["securityContext"]["privileged"] == true;
    none_of(Verdict::Fail, "pods with privileged containers", pods_with(world, bad))
}

fn host_namespaces(world: &World) -> Outcome {
    let bad = |pod: &Value| ["hostNetwork", "hostPID", "hostIPC"].iter().any(|key| pod["spec"][*key] == true);
    none_of(Verdict::Fail, "pods", names(world.pods.iter().filter(|pod| !is_system(pod)), bad))
}

fn root(world: &World) -> Outcome {
    let bad = |pod: &Value| {
        let of_pod = &pod["spec"]["securityContext"];
        containers(pod).any(|container| {
            let own = &container["securityContext"];
            let user = own["runAsUser"].as_u64().or_else(|| of_pod["runAsUser"].as_u64());
            let non_root = own["runAsNonRoot"].as_bool().or_else(|| of_pod["runAsNonRoot"].as_bool()) == Some(true);
            own["allowPrivilegeEscalation"] != false || !(non_root || user.is_some_and(|user| user > 0))
        })
    };
    none_of(Verdict::Warn, "pods", names(world.pods.iter().filter(|pod| !is_system(pod)), bad))
}

fn capabilities(world: &World) -> Outcome {
    let bad = |container: &Value| {
        items(container, &["securityContext", "capabilities", "add"]).any(|added| added != "NET_BIND_SERVICE")
    };
    none_of(Verdict::Warn, "pods", pods_with(world, bad))
}

fn host_access(world: &World) -> Outcome {
    let bad = |pod: &Value| {
        let path = items(pod, &["spec", "volumes"]).any(|volume| !volume["hostPath"].is_null());
        let port =
            |container: &Value| items(container, &["ports"]).any(|port| port["hostPort"].as_u64().unwrap_or(0) > 0);
        path || containers(pod).any(port)
    };
    none_of(Verdict::Warn, "pods", names(world.pods.iter().filter(|pod| !is_system(pod)), bad))
}

fn network_policies(world: &World) -> Outcome {
    let covered = |space: &Value| world.network_policies.iter().any(|policy| namespace(policy) == name(space));
    let bad = |space: &Value| !name(space).starts_with("kube-") && !covered(space);
    none_of(Verdict::Warn, "namespaces without one", names(&world.namespaces, bad))
}

fn secrets_in_environment(world: &World) -> Outcome {
    let bad = |container: &Value| {
        items(container, &["env"]).any(|variable| !variable["valueFrom"]["secretKeyRef"].is_null())
            || items(container, &["envFrom"]).any(|source| !source["secretRef"].is_null())
    };
    none_of(Verdict::Warn, "pods", pods_with(world, bad))
}

fn images(world: &World) -> Outcome {
    let bad = |container: &Value| !container["image"].as_str().unwrap_or_default().contains("@sha256:");
    none_of(Verdict::Warn, "pods with a movable tag", pods_with(world, bad))
}

fn default_namespace(world: &World) -> Outcome {
    let inside = world.pods.iter().filter(|pod| namespace(pod) == "default").count();
    let secrets = world.secrets.iter().filter(|secret| namespace(secret) == "default").count();
    match (inside, secrets) {
        (0, 0) => pass("it is empty"),
        (pods, secrets) => (Verdict::Warn, format!("{pods} pods and {secrets} secrets in it")),
    }
}

/// Pods of users with a container that a check objects to.
fn pods_with(world: &World, bad: impl Fn(&Value) -> bool) -> Vec<String> {
    let own = world.pods.iter().filter(|pod| !is_system(pod));
    own.filter(|pod| containers(pod).any(&bad)).map(name_of).collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|key| items(pod, &["spec", key]))
}
