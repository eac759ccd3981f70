//! The user that a verified client certificate names.

use crate::{
    join,
    pki::identity::{Facts, fingerprint},
    request::User,
};

/// Reads CN as the user name and each O as a group. The TLS layer has verified chain, life and usage already;
/// `None` for names that cannot be a user's.
pub(crate) fn user_of(der: &[u8]) -> Option<User> {
    let facts = Facts::read(der)?;
    let groups: Vec<&str> = facts.organizations.iter().map(String::as_str).collect();
    let mut user = User::new(facts.common_name, &groups);
    if user.in_group("system:nodes") {
        // A node is its key: see `join`.
        user.extra.insert(join::KEY_HASH.to_owned(), vec![fingerprint(&facts.public_key)]);
    }
    Some(user)
}
