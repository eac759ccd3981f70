//! Watches: the synthetic start, the live changes and the bookmarks between them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use drover_api::{
    kinds::Kind,
    status::{ApiError, FieldError},
};
use drover_store::Revision;
use tokio::time::Instant;

use super::{Registry, VersionMatch, list::invalid_options, options::ListOptions, unreadable, unserved};
use crate::cache::{Change, Object, Watcher, range};

/// Kubernetes sends a bookmark about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What a watch asks for besides the selection.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// Selection and starting revision.
    pub list: ListOptions,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`; `None` when absent.
    pub send_initial: Option<bool>,
    /// When the stream ends by itself.
    pub timeout: Duration,
}

/// One line of a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A change of an object.
    Change(Change),
    /// Everything up to `revision` was delivered.
    Bookmark {
        /// That revision.
        revision: Revision,
        /// Whether this is the end of the initial events that the client asked for.
        initial_events_end: bool,
    },
}

/// An open watch.
#[derive(Debug)]
pub struct Watching {
    watcher: Watcher,
    queue: VecDeque<Frame>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends_at: Instant,
    ended: bool,
    shutdown: tokio_util::sync::CancellationToken,
}

impl Registry {
    /// Opens a watch on a kind in a namespace (`""`: everywhere).
    ///
    /// # Errors
    /// 400 for a bad revision, 422 for options that do not go together, 504 for a revision that has not happened.
    /// History that is gone is reported by the stream.
    pub async fn watch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        options: &WatchOptions,
    ) -> Result<Watching, ApiError> {
        check(options)?;
        let (cache, kind_cache) = self.kind_cache(kind).ok_or_else(|| unserved(kind))?;
        let selection = self.selection(kind, namespace, &options.list);
        let asked = options.list.revision()?;
        match (asked, options.send_initial) {
            (None, _) => _ = self.synchronise(kind).await?,
            (Some(revision), _) => cache.wait_for(revision).await?,
        }
        let initial = options.send_initial.unwrap_or(matches!(asked, None | Some(0)));
        let mut queue = VecDeque::new();
        let start = match (initial, asked) {
            (false, _) if drover_api::mutants::active("W08-starts-from-now") => cache.snapshot(kind_cache).1,
            (false, Some(revision)) if revision > 0 => revision,
            (false, _) => cache.snapshot(kind_cache).1,
            (true, _) => {
                let (snapshot, revision) = cache.snapshot(kind_cache);
                if let Some((key, why)) = snapshot.unreadable_under(&selection.prefix) {
                    return Err(unreadable(kind, key, why));
                }
                let selected = range(&snapshot.objects, &selection.prefix, "")
                    .filter(|(key, object)| selection.matches(key, object));
                queue.extend(selected.map(|(_, object)| added(object)));
                if options.send_initial == Some(true) && options.bookmarks {
                    queue.push_back(Frame::Bookmark { revision, initial_events_end: true });
                }
                revision
            }
        };
        let now = Instant::now();
        Ok(Watching {
            watcher: cache.watch(kind_cache, start, selection),
            queue,
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            ends_at: now + options.timeout,
            ended: false,
            shutdown: self.shutdown().clone(),
        })
    }
}

impl Watching {
    /// Waits for the next frames; `None` when the watch is over. Cancel-safe.
    ///
    /// # Errors
    /// 410 when history was lost; the watch is over then.
    pub async fn next(&mut self) -> Option<Result<Vec<Frame>, ApiError>> {
        if !self.queue.is_empty() {
            return Some(Ok(self.queue.drain(..).collect()));
        }
        if self.ended {
            return None;
        }
        // Checked first, so that a flood of changes cannot keep a watch open for ever.
        if Instant::now() >= self.ends_at || self.shutdown.is_cancelled() {
            return self.end();
        }
        tokio::select! {
            // Each arm is cancel-safe: a watcher consumes nothing before it returns, the others only wait.
            biased;
            changes = self.watcher.next() => Some(match changes {
                Ok(changes) => Ok(changes.into_iter().map(Frame::Change).collect()),
                Err(error) => {
                    self.ended = true;
                    Err(error)
                }
            }),
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                Some(Ok(vec![self.bookmark()]))
            }
            () = tokio::time::sleep_until(self.ends_at) => self.end(),
            () = self.shutdown.cancelled() => self.end(),
        }
    }

    fn bookmark(&mut self) -> Frame {
        Frame::Bookmark { revision: self.watcher.delivered(), initial_events_end: false }
    }

    /// A last bookmark lets the client resume without listing again.
    fn end(&mut self) -> Option<Result<Vec<Frame>, ApiError>> {
        self.ended = true;
        let told = self.bookmarks && !drover_api::mutants::active("W13-ends-without-bookmark");
        told.then(|| Ok(vec![self.bookmark()]))
    }
}

fn added(object: &Arc<Object>) -> Frame {
    Frame::Change(Change::Added(Arc::clone(object)))
}

fn check(options: &WatchOptions) -> Result<(), ApiError> {
    let problem = match (options.send_initial, options.list.version_match) {
        (Some(_), Some(VersionMatch::NotOlderThan)) | (None, None) => return Ok(()),
        (Some(_), _) => "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        (None, Some(_)) => "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    };
    Err(invalid_options(&FieldError {
        reason: "FieldValueForbidden",
        field: "resourceVersionMatch".to_owned(),
        message: format!("Forbidden: {problem}"),
    }))
}
