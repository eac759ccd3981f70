//! What the user hands in: manifests and the names of objects.

mod documents;
mod order;
mod selection;
mod sources;
mod yaml;

pub(crate) use documents::{Document, read as read_documents};
pub(crate) use order::by_dependency;
pub(crate) use selection::{Selected, select, select_one};
pub(crate) use sources::SourceArgs;
pub(crate) use yaml::{parse as parse_yaml, to_yaml};
