//! The machinery every controller shares: informers with indexed caches, work queues, the runner, events.
//!
//! Owns every connection to the API, every retry and every clock reading. Makes no decision about any object.
//! Controllers register their triggers on the [`Cluster`], then [`runner::run`] drives their keys.

pub mod clock;
pub mod key;

pub mod cache;
pub mod informer;
pub mod resource;

pub mod cluster;
pub mod events;
pub mod queue;
pub mod runner;

pub mod error;
pub mod merge;

pub use cache::{Change, Index};
pub use clock::{Clock, Environment, Random};
pub use cluster::Cluster;
pub use error::{Disposition, Error, Result};
pub use events::Recorder;
pub use key::ObjectKey;
pub use queue::WorkQueue;
pub use resource::Resource;
pub use runner::{Controller, Outcome};
