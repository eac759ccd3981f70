//! What is served below an object: the kind of its body and what clients may do with it.

use super::Kind;

/// One subresource of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`, …
    pub name: &'static str,
    /// Group of the kind of its body.
    pub group: &'static str,
    /// Version of the kind of its body.
    pub version: &'static str,
    /// Kind of its body; a stream is said to be of the object's kind or of an options kind, as in Kubernetes.
    pub kind: &'static str,
    /// What clients may do with it.
    pub verbs: &'static [&'static str],
    /// The type of its body in [`crate::schema`]; `None` for streams.
    pub type_name: Option<&'static str>,
}

const UPDATABLE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];

pub(super) fn describe(kind: &Kind, name: &str) -> Option<Subresource> {
    let of_core = |name, kind, verbs, type_name| Subresource { name, group: "", version: "v1", kind, verbs, type_name };
    Some(match name {
        "status" => Subresource {
            name: "status",
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            verbs: UPDATABLE,
            type_name: Some(kind.type_name),
        },
        "scale" => Subresource {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: UPDATABLE,
            type_name: Some("autoscaling.v1.Scale"),
        },
        "eviction" => Subresource {
            name: "eviction",
            group: "policy",
            version: "v1",
            kind: "Eviction",
            verbs: CREATE,
            type_name: Some("policy.v1.Eviction"),
        },
        "token" => Subresource {
            name: "token",
            group: "authentication.k8s.io",
            version: "v1",
            kind: "TokenRequest",
            verbs: CREATE,
            type_name: Some("authentication.v1.TokenRequest"),
        },
        "binding" => of_core("binding", "Binding", CREATE, Some("core.v1.Binding")),
        "finalize" => of_core("finalize", "Namespace", &["update"], Some("core.v1.Namespace")),
        "log" => of_core("log", "Pod", &["get"], None),
        "exec" => of_core("exec", "PodExecOptions", CONNECT, None),
        "attach" => of_core("attach", "PodAttachOptions", CONNECT, None),
        "portforward" => of_core("portforward", "PodPortForwardOptions", CONNECT, None),
        _ => return None,
    })
}
