//! What is sealed with which key, as the administrator is told.

use drover_store::KeyValue;
use serde::Serialize;

use super::{Keyring, envelope, record::Record};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Its name.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// Whether new values are sealed with it.
    pub primary: bool,
    /// Values sealed with it.
    pub values: usize,
}

/// The state of sealing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every key, oldest first.
    pub keys: Vec<KeyReport>,
    /// Values from before sealing that are still to be sealed.
    pub plain: usize,
    /// Store keys of the values that cannot be opened.
    pub unreadable: Vec<String>,
}

impl Report {
    pub(super) fn new(keyring: &Keyring, record: &Record) -> Self {
        let keys = keyring.iter().map(|key| KeyReport {
            id: key.id().to_string(),
            created: key.created().to_string(),
            primary: key.id() == record.primary,
            values: 0,
        });
        Self { keys: keys.collect(), plain: 0, unreadable: Vec::new() }
    }

    pub(super) fn count(&mut self, item: &KeyValue, unreadable: bool) {
        if unreadable {
            self.unreadable.push(String::from_utf8_lossy(&item.key).into_owned());
            return;
        }
        match envelope::key_id(&item.value).map(|id| id.to_string()) {
            None => self.plain += 1,
            Some(id) => {
                self.keys.iter_mut().filter(|key| key.id == id).for_each(|key| key.values += 1);
            }
        }
    }
}
