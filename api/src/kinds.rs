//! The registry of kinds: one table entry says all that is generic about a kind.
//!
//! Adding a kind is adding an entry here, its types in [`crate::schema`], and its hooks in `defaults` and `validate`.

mod subresources;
mod table;
#[cfg(test)]
mod tests;

pub use subresources::Subresource;

/// Where the objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk before a write is acknowledged.
    Durable,
    /// In a bounded, last-value, memory-only class: heartbeats and events (design decision 5).
    Volatile,
    /// Nowhere: reviews that are answered at once, and metrics that are computed.
    Virtual,
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
    /// What clients may do with the resource itself, in discovery's words.
    pub verbs: &'static [&'static str],
    /// The type of its objects in [`crate::schema`]: `apps.v1.Deployment`.
    pub type_name: &'static str,
    /// The kind whose objects these are another view of, as `(apiVersion, kind)`; see [`crate::events`].
    pub stored_as: Option<(&'static str, &'static str)>,
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

    /// Returns the type of its objects.
    pub fn object_type(&self) -> &'static crate::schema::Type {
        crate::schema::by_name(self.type_name).expect("a test finds the type of every kind")
    }

    /// Returns the kind in whose form its objects are stored: itself for all but second views.
    pub fn storage_kind(&'static self) -> &'static Kind {
        self.stored_as.and_then(|(api_version, kind)| by_gvk(api_version, kind)).unwrap_or(self)
    }

    /// Returns what discovery and routing need to know of a subresource.
    pub fn subresource(&self, name: &str) -> Option<Subresource> {
        self.subresources.contains(&name).then(|| subresources::describe(self, name)).flatten()
    }
}

/// Returns every kind, in discovery order.
pub fn all() -> &'static [Kind] {
    table::KINDS
}

/// Returns every group and version, in discovery order, each once.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for kind in all() {
        if !found.contains(&(kind.group, kind.version)) {
            found.push((kind.group, kind.version));
        }
    }
    found
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
