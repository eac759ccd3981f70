//! What is written down. Pure; the words for the operator are in `docs/audit-log.md`.

use super::Who;
use crate::{
    health::CONSTANTS,
    request::{RequestInfo, User},
};

/// Whether a request is written down.
///
/// Everything that a person, a workload or a stranger does is. Of Drover's own parts and of nodes, only what changes the
/// cluster, what reads a Secret or makes a token, and what was refused: their watches and heartbeats say nothing.
pub(crate) fn is_recorded(who: &Who, info: Option<&RequestInfo>, code: u16) -> bool {
    let Some(info) = info else { return true };
    if !info.is_resource && CONSTANTS.contains(&info.path.as_str()) {
        return false;
    }
    let refused = matches!(code, 401 | 403);
    if refused || !is_part(who) {
        return true;
    }
    let secret = info.resource == "secrets" || info.subresource == "token";
    if matches!(info.verb, "get" | "list" | "watch" | "head") {
        return secret && code < 400;
    }
    let heartbeat = matches!(info.resource.as_str(), "leases" | "events")
        || (info.resource == "nodes" && info.subresource == "status");
    // A lost race or a name in use is how parts find their way; nothing was changed.
    !heartbeat && !matches!(code, 404 | 409 | 410)
}

/// Whether the user is one of Drover's parts or a node, acting as itself.
fn is_part(who: &Who) -> bool {
    let named = |user: &User| user.name.starts_with("system:node:") || user.name.starts_with("system:drover:");
    who.impersonated.is_none() && who.user.as_ref().is_some_and(named)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn check(user: Option<&str>, method: &Method, path: &str, code: u16, expected: bool) {
        let (path_only, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let info = RequestInfo::parse(method, path_only, query).unwrap();
        let who = Who { user: user.map(|name| User::new(name, &[])), ..Who::default() };
        assert_eq!(is_recorded(&who, Some(&info), code), expected, "{user:?} {method} {path} {code}");
    }

    #[test]
    fn people_and_strangers_are_recorded_whatever_they_do() {
        for user in [Some("jane"), Some("system:serviceaccount:a:b"), Some("drover-admin"), None] {
            check(user, &Method::GET, "/api/v1/pods?watch=1", 200, true);
            check(user, &Method::POST, "/api/v1/namespaces/a/configmaps", 409, true);
            check(user, &Method::GET, "/metrics", 401, true);
            check(user, &Method::GET, "/readyz", 200, false);
        }
        assert!(is_recorded(&Who::default(), None, 400));
    }

    #[test]
    fn parts_and_nodes_are_recorded_when_they_change_something_or_read_a_secret() {
        for user in [Some("system:node:n1"), Some("system:drover:controllers")] {
            check(user, &Method::GET, "/api/v1/pods?watch=1", 200, false);
            check(user, &Method::GET, "/api/v1/namespaces/a/secrets/s", 200, true);
            check(user, &Method::GET, "/api/v1/namespaces/a/secrets/s", 403, true);
            check(user, &Method::POST, "/api/v1/namespaces/a/serviceaccounts/s/token", 201, true);
            check(user, &Method::POST, "/api/v1/namespaces/a/pods", 201, true);
            check(user, &Method::POST, "/api/v1/namespaces/a/pods", 409, false);
            check(user, &Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", 200, false);
            check(user, &Method::PATCH, "/api/v1/nodes/n1/status", 200, false);
            check(user, &Method::PATCH, "/api/v1/nodes/n1/status", 403, true);
            check(user, &Method::POST, "/api/v1/namespaces/a/events", 201, false);
        }
    }
}
