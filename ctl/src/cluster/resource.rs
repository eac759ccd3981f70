//! One kind of object that the server serves, and the addresses of its objects.

use drover_api::kinds::Kind;

/// What discovery says of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    /// API group, `""` for the core group.
    pub(crate) group: String,
    /// API version within the group.
    pub(crate) version: String,
    /// `Deployment`.
    pub(crate) kind: String,
    /// `deployments`.
    pub(crate) plural: String,
    /// `deployment`.
    pub(crate) singular: String,
    /// `deploy`.
    pub(crate) short_names: Vec<String>,
    /// `all`.
    pub(crate) categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
    /// What may be done with it.
    pub(crate) verbs: Vec<String>,
}

impl Resource {
    /// `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployment.apps`, `pod`: what `-o name` prints before the slash.
    pub(crate) fn label(&self) -> String {
        if self.group.is_empty() { self.singular.clone() } else { format!("{}.{}", self.singular, self.group) }
    }

    /// The path of the collection in a namespace; of all namespaces when it is `None`.
    pub(crate) fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{root}/{}/namespaces/{}/{}", self.version, encode(namespace), self.plural)
            }
            Some(_) | None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }

    /// The path of one object.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(Some(namespace)), encode(name))
    }

    /// The path of a subresource of one object.
    pub(crate) fn subresource(&self, namespace: &str, name: &str, subresource: &str) -> String {
        format!("{}/{subresource}", self.object(namespace, name))
    }

    /// Whether a word on the command line means this resource: `deploy`, `deployments`, `Deployment`,
    /// `deployments.apps`, `deployments.v1.apps`.
    pub(crate) fn answers_to(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let (name, rest) = word.split_once('.').map_or((word.as_str(), None), |(name, rest)| (name, Some(rest)));
        let named = name == self.plural
            || name == self.singular
            || name == self.kind.to_lowercase()
            || self.short_names.iter().any(|short| short == name);
        let grouped = rest.is_none_or(|rest| rest == self.group || rest == format!("{}.{}", self.version, self.group));
        named && grouped
    }

    /// The entry of Drover's own table for this resource, which has the merge keys of its fields.
    pub(crate) fn schema(&self) -> Option<&'static Kind> {
        drover_api::kinds::by_gvk(&self.api_version(), &self.kind)
    }
}

impl From<&Kind> for Resource {
    fn from(kind: &Kind) -> Self {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
            singular: kind.singular.to_owned(),
            short_names: owned(kind.short_names),
            categories: owned(kind.categories),
            namespaced: kind.namespaced,
            verbs: owned(kind.verbs),
        }
    }
}

/// Percent-encodes what may not stand in a path segment or a query value.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(api_version: &str, kind: &str) -> Resource {
        drover_api::kinds::by_gvk(api_version, kind).map(Resource::from).unwrap()
    }

    #[test]
    fn words_name_resources_as_kubectl_accepts_them() {
        let deployments = known("apps/v1", "Deployment");
        for word in ["deploy", "deployment", "deployments", "Deployment", "deployments.apps", "deploy.v1.apps"] {
            assert!(deployments.answers_to(word), "{word}");
        }
        assert!(!deployments.answers_to("deployments.other"));
        assert!(known("v1", "Event").answers_to("events"));
        assert!(!known("v1", "Event").answers_to("events.events.k8s.io"));
    }

    #[test]
    fn addresses_of_objects_are_encoded() {
        assert_eq!(known("v1", "Pod").object("a", "b"), "/api/v1/namespaces/a/pods/b");
        assert_eq!(known("v1", "Node").object("a", "b"), "/api/v1/nodes/b");
        assert_eq!(known("apps/v1", "Deployment").collection(None), "/apis/apps/v1/deployments");
        let role = known("rbac.authorization.k8s.io/v1", "ClusterRole");
        assert_eq!(role.object("", "a/../b"), "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%2F..%2Fb");
    }
}
