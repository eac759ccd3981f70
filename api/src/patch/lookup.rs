//! What the type table says of one field of a document that is being patched.

use crate::schema::{FieldType, ListType, Merge};

/// The strategies of one field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup {
    pub(super) ty: FieldType,
    pub(super) merge: Merge,
    /// The keys that tell items apart which share a merge key: `protocol` besides `port`.
    pub(super) map_keys: &'static [&'static str],
    pub(super) retain_keys: bool,
    pub(super) replace: bool,
}

impl Lookup {
    /// A field without strategies.
    pub(super) fn plain(ty: FieldType) -> Self {
        Self { ty, merge: Merge::Never, map_keys: &[], retain_keys: false, replace: false }
    }

    /// Looks a field up; what the table does not know is free-form.
    pub(super) fn field(parent: FieldType, name: &str) -> Self {
        let id = match parent {
            FieldType::Message(id) => id,
            FieldType::Map(element) => return Self::plain(*element),
            _ => return Self::plain(FieldType::Any),
        };
        let Some(field) = id.resolve().field(name) else { return Self::plain(FieldType::Any) };
        let map_keys = match field.list {
            ListType::Map(keys) => keys,
            ListType::Unstated | ListType::Atomic | ListType::Granular | ListType::Set => &[],
        };
        Self { ty: field.ty, merge: field.merge, map_keys, retain_keys: field.retain_keys, replace: field.replace }
    }

    /// Returns the type of the items of a list.
    pub(super) fn item(&self) -> FieldType {
        self.ty.element().unwrap_or(FieldType::Any)
    }
}
