//! Remembers, beside the keys and outside the store, how far the store had come (attack A60).
//!
//! A store that is behind that was replaced: by an older copy, or by a new and empty one. Serving it as if nothing had
//! happened would hand out revisions a second time and have agents end everything that it does not know. So it counts
//! as restored and unconfirmed, and its revisions go on beyond the ones remembered.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use drover_store::{Backend as _, Revision};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    gate::Gate,
    marker::{Cause, File, Marker, Restored},
    plan::{self, Counts},
};
use crate::registry::{Environment, format_time};

/// How often the revision is written down. A store that was replaced by a copy which is younger than this is not
/// noticed, but for the headroom that revisions leap over nothing depends on it.
const NOTE_EVERY: Duration = Duration::from_secs(30);

/// The file that remembers.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    path: PathBuf,
}

impl Witness {
    /// Remembers in a directory that is kept when the store is lost.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { path: directory.join("store-revision") }
    }

    /// Compares the store with what is remembered.
    ///
    /// # Errors
    /// The store's. A memory that cannot be read is none.
    pub(crate) async fn check(&self, gate: &Gate, cluster: &str, environment: &dyn Environment) -> Result<(), Error> {
        let Some(remembered) = self.read() else { return Ok(()) };
        loop {
            let known = gate.refresh().await?;
            let store_revision = gate.inner.revision().await?;
            let shown = store_revision + known.marker.offset;
            if shown >= remembered || known.is_closed() {
                return Ok(());
            }
            tracing::error!(
                remembered,
                found = shown,
                "the store is older than it was: nothing that it does not know is ended until that is confirmed"
            );
            let now = format_time(environment.now());
            let restored = Restored {
                cause: Cause::StoreReplaced,
                // Nobody knows how old it is.
                file: File { cluster: cluster.to_owned(), revision: shown, ..File::default() },
                by: "the server".to_owned(),
                at: now.clone(),
                counts: Counts::default(),
                confirmed: None,
            };
            let marker = Marker {
                offset: plan::next_offset(known.marker.offset, store_revision, remembered),
                floor: store_revision,
                restored: Some(restored),
                ..known.marker.clone()
            };
            if gate.mark(&known, marker).await? {
                tracing::info!(at = now, "the cluster counts as restored");
                return Ok(());
            }
        }
    }

    /// Writes the revision down from time to time, and once more at `shutdown`.
    pub(crate) async fn run(self, gate: Arc<Gate>, shutdown: CancellationToken) {
        let mut noted = 0;
        loop {
            // While a restore is applied there is nothing to note.
            if let Ok(revision) = gate.revision().await
                && revision > noted
            {
                match self.write(revision) {
                    Ok(()) => noted = revision,
                    Err(error) => tracing::warn!(%error, "cannot note the store's revision"),
                }
            }
            if shutdown.is_cancelled() {
                return;
            }
            // Cancel-safe: a token and a timer.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(NOTE_EVERY) => {}
            }
        }
    }

    fn read(&self) -> Option<Revision> {
        fs::read_to_string(&self.path).ok()?.trim().parse().ok()
    }

    fn write(&self, revision: Revision) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        writeln!(file, "{revision}")?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}
