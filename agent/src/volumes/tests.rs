//! Pods' volumes from end to end: an API in memory, the engine in memory, real directories.

mod claims;
mod content;
mod fake;
mod pods;
