//! The registry of kinds: one table entry says all that is generic about a kind.
//!
//! Adding a kind is adding an entry here, its types in [`crate::schema`], and its hooks in `defaults` and `validate`.

/// Where the objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk before a write is acknowledged.
    Durable,
    /// In a bounded, last-value, memory-only class: heartbeats and events (design decision 5).
    Volatile,
}

/// How names of a kind are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253 characters: most kinds.
    DnsSubdomain,
    /// RFC 1123 label, at most 63 characters: Namespace, Service (1035 label there).
    DnsLabel,
    /// RFC 1035 label: Service.
    DnsLabel1035,
    /// Any path segment without `/` and `%`, not `.` or `..`: RBAC kinds.
    PathSegment,
}

/// One kind of object.
#[derive(Debug)]
pub struct Kind {
    /// API group, `""` for the core group.
    pub group: &'static str,
    /// API version, for example `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// `deploy`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Subresources served below the object, for example `status`, `scale`, `log`.
    pub subresources: &'static [&'static str],
    /// Whether `metadata.generation` is kept (bumped when anything but metadata and status changes).
    pub has_generation: bool,
    /// Where objects are kept.
    pub durability: Durability,
    /// How names are checked.
    pub name_rule: NameRule,
    /// Field selectors besides `metadata.name` and `metadata.namespace`: dotted paths such as `spec.nodeName`.
    pub field_selectors: &'static [&'static str],
}

impl Kind {
    /// Returns `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Returns `deployments.apps`, or `pods` for the core group: how error messages name a resource.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// Returns every kind, in discovery order.
pub fn all() -> &'static [Kind] {
    &[]
}

/// Finds a kind by the words of its URL.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all().iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// Finds a kind by the words of an object's `apiVersion` and `kind`.
pub fn by_gvk(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    all().iter().find(|entry| entry.group == group && entry.version == version && entry.kind == kind)
}
