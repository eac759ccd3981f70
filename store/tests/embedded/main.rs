//! The embedded store against a disk that crashes, tears, fills up and fails, and against its own model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concurrent_crash;
mod crash;
mod failing_disk;
mod full_disk;
mod growth;
mod inline;
mod killed;
mod model;
mod property;
mod real_directory;
