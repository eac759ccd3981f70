//! The type table: for every type its fields, their types, list types and merge keys.
//!
//! The facts are in `api/schema/*.types`, one line a field, parsed once at first use. Decoding, patches and the
//! OpenAPI documents are functions of this table; nothing here knows a single kind by name. The grammar:
//!
//! ```text
//! package <short name> <OpenAPI prefix> <apiVersion>
//! object|type <Name> [atomic]          an `object` carries apiVersion and kind
//!   <number> <name>[!] <type>[?] <word>*  `!`: required, `?`: a zero differs from nothing; the number is the wire's
//!   <number> ... <Name>                   the fields of another type beside ours; on the wire a message of their own
//! ```
//! A type is `string int32 int64 bool bytes time microtime duration quantity intOrString any fields`, the name of a
//! type (of another package: `meta.v1.ObjectMeta`), `list<T>`, `map<T>` (keys are strings) or `items<T>` (a list that
//! the protobuf wire wraps in a message). The words: `atomic`, `granular`, `set`, `map(key,…)` say how server-side
//! apply merges it; `merge`, `merge(key)`, `retainKeys`, `replace` are the strategies of a strategic merge patch.

mod parse;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::LazyLock};

/// The types of one group and version.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// `apps.v1`: how references in the table name it.
    pub name: &'static str,
    /// `io.k8s.api.apps.v1`: how OpenAPI documents name it.
    pub openapi_prefix: &'static str,
    /// `apps/v1`.
    pub api_version: &'static str,
}

/// One type that objects are made of.
#[derive(Debug)]
pub struct Type {
    /// `DeploymentSpec`.
    pub name: &'static str,
    /// Where it belongs.
    pub package: &'static Package,
    /// Whether it carries `apiVersion` and `kind`.
    pub is_object: bool,
    /// Whether appliers own it as a whole.
    pub is_atomic: bool,
    /// Every field that JSON may hold, sorted by name, those of inlined types included.
    pub fields: Vec<Field>,
    /// The types whose fields are inlined, with the number of their message on the protobuf wire.
    pub inlined: Vec<(u32, TypeId)>,
}

/// One field of a type.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// What it holds.
    pub ty: FieldType,
    /// Number on the protobuf wire within the type that declares it; 0 for `apiVersion` and `kind`.
    pub number: u32,
    /// Whether an object without it is invalid by its OpenAPI schema.
    pub is_required: bool,
    /// Whether a zero says something else than an absent value: `replicas: 0`. The protobuf wire sends the zeros of all
    /// other scalars too, where they mean nothing.
    pub is_nullable: bool,
    /// Whether it comes from an inlined type, where [`Field::number`] belongs.
    pub is_inlined: bool,
    /// How server-side apply merges it.
    pub list: ListType,
    /// How a strategic merge patch merges it, when it is a list.
    pub merge: Merge,
    /// Strategy `retainKeys`: a patch names the keys that stay (`$retainKeys`).
    pub retain_keys: bool,
    /// Strategy `replace`: a patch replaces the map as a whole.
    pub replace: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A string.
    String,
    /// A signed number of 32 bits.
    Int32,
    /// A signed number of 64 bits.
    Int64,
    /// `true` or `false`.
    Bool,
    /// Base64 text.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339 with six digits of fraction.
    MicroTime,
    /// Go's text form: `1m30s`.
    Duration,
    /// `100m`, `1.5Gi`.
    Quantity,
    /// A port or a count: number or string.
    IntOrString,
    /// Any JSON.
    Any,
    /// The field set of a managed field: a JSON object that nothing interprets.
    FieldSet,
    /// Another type of the table.
    Message(TypeId),
    /// A list.
    List(&'static FieldType),
    /// An object with free keys.
    Map(&'static FieldType),
    /// A list in JSON, a message with one repeated field on the protobuf wire.
    Items(&'static FieldType),
}

/// How server-side apply merges a list, a map or a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// Nothing is said.
    Unstated,
    /// As a whole.
    Atomic,
    /// As a set of scalars.
    Set,
    /// Field by field, although its type is atomic elsewhere.
    Granular,
    /// As a map by these keys.
    Map(&'static [&'static str]),
}

/// How a strategic merge patch merges a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Not: the patch's list replaces the other.
    Never,
    /// As a set of scalars.
    Scalars,
    /// Item by item, those with an equal value of this key are the same item.
    By(&'static str),
}

/// A reference to a [`Type`] of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

impl TypeId {
    /// Returns the type.
    pub fn resolve(self) -> &'static Type {
        &TABLE.types[usize::from(self.0)]
    }
}

impl Type {
    /// Finds a field by its JSON name, in the exact case.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.index_of(name).map(|index| &self.fields[index])
    }

    /// Finds the position of a field in [`Type::fields`].
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.binary_search_by(|field| field.name.cmp(name)).ok()
    }

    /// Returns `io.k8s.api.apps.v1.Deployment`.
    pub fn openapi_name(&self) -> String {
        format!("{}.{}", self.package.openapi_prefix, self.name)
    }
}

impl FieldType {
    /// Returns the type of the items of a list or of the values of a map.
    pub fn element(self) -> Option<FieldType> {
        match self {
            Self::List(element) | Self::Map(element) | Self::Items(element) => Some(*element),
            Self::String
            | Self::Int32
            | Self::Int64
            | Self::Bool
            | Self::Bytes
            | Self::Time
            | Self::MicroTime
            | Self::Duration
            | Self::Quantity
            | Self::IntOrString
            | Self::Any
            | Self::FieldSet
            | Self::Message(_) => None,
        }
    }
}

/// Finds a type by package and name: `apps.v1.Deployment`.
pub fn by_name(name: &str) -> Option<&'static Type> {
    id_of(name).map(TypeId::resolve)
}

/// As [`by_name`], as a reference.
pub fn id_of(name: &str) -> Option<TypeId> {
    let (package, name) = name.rsplit_once('.')?;
    TABLE.ids.get(&(package, name)).copied()
}

/// Returns every type.
pub fn all() -> &'static [Type] {
    &TABLE.types
}

#[derive(Debug)]
struct Table {
    types: Vec<Type>,
    ids: HashMap<(&'static str, &'static str), TypeId>,
}

const SOURCES: &[&str] = &[
    include_str!("../schema/meta.v1.types"),
    include_str!("../schema/core.pod.types"),
    include_str!("../schema/core.volume.types"),
    include_str!("../schema/core.node.types"),
    include_str!("../schema/core.service.types"),
    include_str!("../schema/core.config.types"),
    include_str!("../schema/apps.v1.types"),
    include_str!("../schema/authentication.v1.types"),
    include_str!("../schema/authorization.v1.types"),
    include_str!("../schema/autoscaling.v1.types"),
    include_str!("../schema/coordination.v1.types"),
    include_str!("../schema/discovery.v1.types"),
    include_str!("../schema/drover.v1alpha1.types"),
    include_str!("../schema/events.v1.types"),
    include_str!("../schema/metrics.v1beta1.types"),
    include_str!("../schema/networking.v1.types"),
    include_str!("../schema/policy.v1.types"),
    include_str!("../schema/rbac.v1.types"),
    include_str!("../schema/scheduling.v1.types"),
    include_str!("../schema/storage.v1.types"),
];

static TABLE: LazyLock<Table> =
    LazyLock::new(|| parse::parse(SOURCES).expect("the table is part of the binary and a test parses it"));
