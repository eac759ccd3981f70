//! Who asks, and what for: the one canonical reading of a request.
//!
//! [`RequestInfo::parse`] runs once a request. Authorisation and routing both use its result and nothing else, so
//! that no spelling of a path can be authorised as one thing and served as another. May not do I/O.

mod path;
mod query;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use drover_api::status::ApiError;
use http::Method;

/// An authenticated identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// `drover-admin`, `system:serviceaccount:ns:name`, `system:node:n1`, …
    pub name: String,
    /// Empty when the credential names none.
    pub uid: String,
    /// Groups, always with `system:authenticated` (or `system:unauthenticated`).
    pub groups: Vec<String>,
    /// Further attributes of the credential.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Builds a user of the given groups, plus `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push("system:authenticated".to_owned());
        Self { name: name.into(), uid: String::new(), groups, extra: BTreeMap::new() }
    }

    /// The identity of a request without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }

    /// Whether the user is a member of `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What a request wants, in the words of authorisation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths that are not
    /// resources, the HTTP method in lower case.
    pub verb: &'static str,
    /// API group, `""` for the core group.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Namespace, `""` for all or for cluster-scoped objects. For a Namespace object, its own name (as Kubernetes
    /// does it, so that a Role inside the namespace can grant the right to read it).
    pub namespace: String,
    /// Plural, for example `pods`.
    pub resource: String,
    /// For example `status`, or `""`.
    pub subresource: String,
    /// Object name, or `""`. A list or watch with the field selector `metadata.name=x` also has it.
    pub name: String,
    /// Path segments below the subresource; nothing served today has any.
    pub tail: Vec<String>,
    /// The canonical decoded path.
    pub path: String,
    /// Whether the path names a resource, as opposed to discovery, health and the like.
    pub is_resource: bool,
    /// Decoded query pairs, in order.
    pub query: Vec<(String, String)>,
}

impl RequestInfo {
    /// Reads method, path and query.
    ///
    /// # Errors
    /// 400 for empty or dot segments, encoded separators, control characters, `;`, invalid UTF-8, a repeated query
    /// key that takes one value, and a `watch` that is no boolean; 405 for a method that no resource has.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, ApiError> {
        let query = query::parse(query.unwrap_or_default())?;
        let segments = path::segments(path)?;
        let mut info = Self { path: format!("/{}", segments.join("/")), query, ..Self::default() };
        let rest = match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.api_version = (*version).to_owned();
                rest.iter().map(|part| (*part).to_owned()).collect()
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.api_group = (*group).to_owned();
                info.api_version = (*version).to_owned();
                rest.iter().map(|part| (*part).to_owned()).collect()
            }
            _ => Vec::new(),
        };
        if rest.is_empty() {
            info.verb = non_resource_verb(method)?;
            return Ok(info);
        }
        info.is_resource = true;
        info.read_resource(rest);
        info.read_verb(method)?;
        Ok(info)
    }

    /// Returns the value of a query key, `None` when it is absent.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns every value of a query key that may repeat (`command`, `dryRun`).
    pub fn query_all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Reads a boolean query key; absent is `false`, present without a value is `true`.
    ///
    /// # Errors
    /// 400 for anything that is no boolean.
    pub fn flag(&self, key: &str) -> Result<bool, ApiError> {
        match self.query(key) {
            None => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some(other) => Err(ApiError::bad_request(format!("invalid value {other:?} for query parameter {key:?}"))),
        }
    }

    fn read_resource(&mut self, mut parts: Vec<String>) {
        const OF_NAMESPACE: [&str; 2] = ["status", "finalize"];
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace = parts[1].clone();
            if parts.len() > 2 && !OF_NAMESPACE.contains(&parts[2].as_str()) {
                parts.drain(..2);
            }
        }
        let mut parts = parts.into_iter();
        self.resource = parts.next().unwrap_or_default();
        self.name = parts.next().unwrap_or_default();
        self.subresource = parts.next().unwrap_or_default();
        self.tail = parts.collect();
    }

    fn read_verb(&mut self, method: &Method) -> Result<(), ApiError> {
        let collection = self.name.is_empty();
        self.verb = match *method {
            // A WebSocket arrives as GET; the right to read a pod is not the right to run commands in it.
            Method::GET if self.is_connect() && drover_api::mutants::active("A23-exec-by-get") => "get",
            Method::GET | Method::POST if self.is_connect() => "create",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if collection => "deletecollection",
            Method::DELETE => "delete",
            Method::GET | Method::HEAD if !collection => "get",
            Method::GET | Method::HEAD if self.flag("watch")? => "watch",
            Method::GET | Method::HEAD => "list",
            _ => return Err(method_not_allowed()),
        };
        if collection && matches!(self.verb, "list" | "watch" | "deletecollection") {
            self.name = self.query("fieldSelector").and_then(query::selected_name).unwrap_or_default();
        }
        Ok(())
    }
}

impl RequestInfo {
    fn is_connect(&self) -> bool {
        self.api_group.is_empty()
            && self.resource == "pods"
            && matches!(self.subresource.as_str(), "exec" | "attach" | "portforward")
    }
}

/// Builds the 405 of a method that the path does not have.
pub(crate) fn method_not_allowed() -> ApiError {
    ApiError::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

fn non_resource_verb(method: &Method) -> Result<&'static str, ApiError> {
    Ok(match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return Err(method_not_allowed()),
    })
}
