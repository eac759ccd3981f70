//! The API server as this tool sees it: requests and answers as JSON documents.
//!
//! Owns the connection, the words that name resources, and the translation of failures. Knows nothing of commands.

mod client;
mod config;
mod discovery;
mod error;
mod resource;
mod watch;

pub(crate) use client::{Cluster, Delete, PatchType, Query};
pub(crate) use config::{Access, kubeconfig_paths, merged as merged_kubeconfig};
pub(crate) use error::Error;
pub(crate) use resource::Resource;
pub(crate) use watch::{Event, follow};
