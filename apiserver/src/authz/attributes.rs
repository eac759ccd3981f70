//! What is asked for, and how a refusal is worded.

use drover_api::status::ApiError;
use serde_json::json;

use crate::request::{RequestInfo, User};

/// The parts of a request that a decision rests on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `get`, `create`, …, or a virtual verb such as `impersonate`, `bind`, `escalate`.
    pub verb: String,
    /// API group.
    pub api_group: String,
    /// Namespace, `""` for the cluster scope.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Subresource, or `""`.
    pub subresource: String,
    /// Object name, or `""`.
    pub name: String,
    /// The field selector of a list or watch, as the client wrote it.
    pub field_selector: String,
    /// The path, for a request that names no resource.
    pub path: Option<String>,
}

impl Attributes {
    /// Takes the attributes of a parsed request.
    pub fn of(info: &RequestInfo) -> Self {
        Self {
            verb: info.verb.to_owned(),
            api_group: info.api_group.clone(),
            namespace: info.namespace.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            name: info.name.clone(),
            field_selector: info.query("fieldSelector").unwrap_or_default().to_owned(),
            path: (!info.is_resource).then(|| info.path.clone()),
        }
    }

    /// Returns `pods` or `pods/log`.
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Words a refusal as Kubernetes does.
    pub(crate) fn forbidden(&self, user: &User, reason: &str) -> ApiError {
        let who = &user.name;
        let verb = &self.verb;
        let mut text = match &self.path {
            Some(path) => format!("forbidden: User {who:?} cannot {verb} path {path:?}"),
            None => {
                let (resource, group) = (self.full_resource(), &self.api_group);
                let scope = if self.namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {:?}", self.namespace)
                };
                let subject = self.subject();
                format!(
                    "{subject} is forbidden: User {who:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}"
                )
            }
        };
        if !reason.is_empty() {
            text += &format!(": {reason}");
        }
        let mut error = ApiError::new(403, "Forbidden", text);
        error.details = json!({});
        for (key, value) in [("name", &self.name), ("group", &self.api_group), ("kind", &self.resource)] {
            if !value.is_empty() {
                error.details[key] = value.as_str().into();
            }
        }
        error
    }

    fn subject(&self) -> String {
        let resource = if self.api_group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.api_group)
        };
        if self.name.is_empty() { resource } else { format!("{resource} {:?}", self.name) }
    }
}
