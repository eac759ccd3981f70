//! What a restore of an older backup holds back until an administrator confirms it. Pure.
//!
//! After a restore the API no longer knows what was made between the backup and the restore, and that is no reason to
//! end it. The API server publishes the state, agents and controllers ask it, afresh, before they delete anything that
//! nobody asked to have deleted, and [`decide`] is the one place that says what waits.

use jiff::Timestamp;
use serde_json::Value;

use crate::object::str_at;

/// Where the state is read, by agents and controllers too; 404 as long as nothing was ever restored.
pub const STATE_PATH: &str = "/apis/drover.dev/v1alpha1/restores/cluster";
/// The reason of events and conditions about what is held back.
pub const HELD_REASON: &str = "RestoreNotConfirmed";

/// A restore that nobody has confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// When the backup was taken.
    pub taken_at: Timestamp,
    /// When it was restored, or when the restore began that is still under way.
    pub restored_at: Timestamp,
}

/// Something that would be deleted though nobody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Containers of a pod that the API does not have (agent).
    UnknownPod,
    /// The data of a volume that is being deleted (agent).
    VolumeData,
    /// A volume whose claim is gone (controllers).
    Volume,
    /// An object whose owners are gone (controllers).
    Garbage,
    /// A pod of a node that the API does not have (controllers).
    StrandedPod,
    /// An ended pod beyond the number that is kept (controllers).
    FinishedPod,
    /// A pod that is one too many for its set (controllers).
    SurplusPod {
        /// When it was made; `None` when it does not say.
        created_at: Option<Timestamp>,
    },
}

/// Decides whether a deletion must wait, and says why.
///
/// `state` is `None` when nothing was restored, or the restore is confirmed. What the restored state itself asks for
/// goes on: a rollout replaces its pods and ended pods are cleared away, unless they are younger than the backup and
/// older than the restore, which makes them the newer state's.
pub fn decide(state: Option<&Unconfirmed>, deletion: Deletion) -> Option<String> {
    let state = state?;
    let what = match deletion {
        Deletion::UnknownPod => "a pod that the restored state does not know is kept running",
        Deletion::VolumeData => "the data of a volume is kept",
        Deletion::Volume => "a volume without its claim is kept",
        Deletion::Garbage => "an object without its owners is kept",
        Deletion::StrandedPod => "a pod of a node that the restored state does not know is kept",
        Deletion::SurplusPod { created_at: Some(at) } if state.taken_at <= at && at <= state.restored_at => {
            "a pod that is younger than the backup is kept"
        }
        Deletion::FinishedPod | Deletion::SurplusPod { .. } => return None,
    };
    Some(format!(
        "{what}: the cluster was restored at {} from a backup of {}; an administrator must confirm it \
         (droverctl restore --confirm)",
        state.restored_at, state.taken_at
    ))
}

/// Reads the state out of the object at [`STATE_PATH`]; `None` when everything in it is confirmed.
///
/// An object that cannot be read counts as unconfirmed since ever: keeping too much is the error that can be undone.
pub fn unconfirmed(object: &Value) -> Option<Unconfirmed> {
    let phase = str_at(object, &["status", "phase"]);
    if phase == "Confirmed" {
        return None;
    }
    let time = |path: &[&str], otherwise| str_at(object, path).parse().unwrap_or(otherwise);
    Some(Unconfirmed {
        taken_at: time(&["spec", "takenAt"], Timestamp::UNIX_EPOCH),
        restored_at: time(&["status", "restoredAt"], Timestamp::MAX),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(hour: i8) -> Timestamp {
        jiff::civil::date(2026, 1, 1).at(hour, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
    }

    fn state() -> Unconfirmed {
        Unconfirmed { taken_at: at(1), restored_at: at(3) }
    }

    #[test]
    fn an_unconfirmed_restore_holds_back_what_nobody_asked_for() {
        let surplus = |hour| Deletion::SurplusPod { created_at: Some(at(hour)) };
        for (deletion, held) in [
            (Deletion::UnknownPod, true),
            (Deletion::VolumeData, true),
            (Deletion::Volume, true),
            (Deletion::Garbage, true),
            (Deletion::StrandedPod, true),
            (Deletion::FinishedPod, false),
            (surplus(0), false),
            (surplus(1), true),
            (surplus(2), true),
            (surplus(3), true),
            (surplus(4), false),
            (Deletion::SurplusPod { created_at: None }, false),
        ] {
            assert_eq!(decide(Some(&state()), deletion).is_some(), held, "{deletion:?}");
            assert_eq!(decide(None, deletion), None, "{deletion:?} without a restore");
        }
        let said = decide(Some(&state()), Deletion::UnknownPod).unwrap();
        assert!(said.contains("2026-01-01T01:00:00Z") && said.contains("droverctl restore --confirm"), "{said}");
    }

    #[test]
    fn only_a_confirmed_state_lets_go() {
        let object = |phase: &str| {
            json!({"spec": {"takenAt": "2026-01-01T01:00:00Z"},
                "status": {"phase": phase, "restoredAt": "2026-01-01T03:00:00Z"}})
        };
        assert_eq!(unconfirmed(&object("Restored")), Some(state()));
        assert_eq!(unconfirmed(&object("Confirmed")), None);
        assert!(unconfirmed(&object("Applying")).is_some());
        let unreadable = unconfirmed(&json!({})).unwrap();
        assert!(decide(Some(&unreadable), Deletion::SurplusPod { created_at: Some(at(2)) }).is_some());
    }
}
