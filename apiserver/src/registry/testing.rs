//! What the tests of this crate share.

use drover_api::kinds::{self, Kind};

/// Finds a kind by group and plural.
pub(crate) fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural).expect("a served kind")
}
