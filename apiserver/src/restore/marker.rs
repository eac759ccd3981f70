//! The marker of restores: one key in the store that every server watches and every write is bound to.

use drover_store::{KeyValue, Revision};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::Counts;

/// What the store says about restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Marker {
    /// Added to every revision of the store, so that a restore into a new store never reuses one of the old store's.
    pub(super) offset: Revision,
    /// History before this revision of the store is of another state of the cluster.
    pub(super) floor: Revision,
    /// The upload that is under way, if one is.
    pub(super) staging: Option<String>,
    /// The restore that is being applied. Nobody reads or writes objects while it is there.
    pub(super) applying: Option<Applying>,
    /// The last restore that was completed.
    pub(super) restored: Option<Restored>,
}

/// A restore between its first and its last write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Applying {
    /// Names what is staged.
    pub(super) staged: String,
    /// In so many pieces.
    pub(super) chunks: u64,
    /// What is restored.
    pub(super) file: File,
    /// Who asked for it.
    pub(super) by: String,
    /// When, RFC 3339 as all times here.
    pub(super) begun_at: String,
    /// The offset that counts from the end of the restore on.
    pub(super) offset: Revision,
}

/// A restore that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Restored {
    /// What made the state go back.
    #[serde(default)]
    pub(super) cause: Cause,
    pub(super) file: File,
    pub(super) by: String,
    pub(super) at: String,
    /// What it changed; what a server that died had done is not counted.
    pub(super) counts: Counts,
    /// Who said that what the file does not know may go.
    pub(super) confirmed: Option<Confirmed>,
}

/// How the cluster's state came to be an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Cause {
    /// A backup was restored.
    #[default]
    Backup,
    /// The store itself is older than it was, or new.
    StoreReplaced,
}

/// A confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmed {
    pub(super) by: String,
    pub(super) at: String,
}

/// Which file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    pub(super) cluster: String,
    pub(super) revision: Revision,
    pub(super) taken_at: String,
    pub(super) records: u64,
    pub(super) digest: String,
}

/// The marker as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Known {
    pub(super) marker: Marker,
    /// The store's revision of it; 0 when there is none.
    pub(super) revision: Revision,
}

impl Known {
    /// Reads the marker's key, `None` when it is missing.
    pub(super) fn read(found: Option<&KeyValue>) -> Result<Self, drover_store::Error> {
        let Some(found) = found else { return Ok(Self::default()) };
        let unreadable = |error| drover_store::Error::Broken(format!("{} cannot be read: {error}", super::MARKER));
        let marker = serde_json::from_slice(&found.value).map_err(unreadable)?;
        Ok(Self { marker, revision: found.mod_revision })
    }

    /// Whether objects may be neither read nor written.
    pub(super) fn is_closed(&self) -> bool {
        self.marker.applying.is_some()
    }
}

impl Marker {
    /// The object that clients see; `None` when nothing was ever restored.
    pub(super) fn to_object(&self) -> Option<Value> {
        let applying = self.applying.as_ref().map(|applying| {
            let status = json!({"phase": "Applying", "by": applying.by, "restoredAt": applying.begun_at,
                "conditions": [condition(false, "Applying", "the backup is being restored", &applying.begun_at)]});
            (&applying.file, status)
        });
        let restored = self.restored.as_ref().map(|restored| (&restored.file, restored.status()));
        let (file, status) = applying.or(restored)?;
        Some(json!({
            "kind": "Restore",
            "apiVersion": "drover.dev/v1alpha1",
            "metadata": {"name": "cluster"},
            "spec": file,
            "status": status,
        }))
    }
}

impl Restored {
    fn status(&self) -> Value {
        let mut status = json!({"phase": "Restored", "cause": self.cause, "by": self.by, "restoredAt": self.at,
            "changes": self.counts});
        let (since, confirmed, reason, message) = match &self.confirmed {
            Some(confirmed) => {
                status["phase"] = "Confirmed".into();
                status["confirmedAt"] = confirmed.at.as_str().into();
                (&confirmed.at, true, "Confirmed", format!("confirmed by {}", confirmed.by))
            }
            None => (&self.at, false, drover_api::restored::HELD_REASON, self.notice()),
        };
        status["conditions"] = json!([condition(confirmed, reason, &message, since)]);
        status
    }

    /// What people are told until it is confirmed.
    pub(super) fn notice(&self) -> String {
        let happened = match self.cause {
            Cause::Backup => {
                format!("the cluster was restored from a backup of {}", self.file.taken_at)
            }
            Cause::StoreReplaced => "the store is older than it was, or new".to_owned(),
        };
        format!(
            "{happened} (revision {}); what it does not know is kept running and no data is removed until an \
             administrator confirms it: droverctl restore --confirm",
            self.file.revision
        )
    }
}

fn condition(status: bool, reason: &str, message: &str, since: &str) -> Value {
    json!({
        "type": "Confirmed",
        "status": if status { "True" } else { "False" },
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    })
}
