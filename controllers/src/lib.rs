//! Controllers: loops that make the world match what the objects say.
//!
//! Owns every decision about objects that no user and no node makes: replicas, rollouts, endpoints, node life,
//! deletion. Reaches state only through the Kubernetes API, as any client does; may not touch the store or an engine.
//! Each controller is a folder: observe → plan (pure) → apply → report, on the shared [`runtime`].

pub mod runtime;

pub mod objects;

pub mod replicaset;

pub mod deployment;

pub mod endpoints;

pub mod proxyack;

pub mod ingress;

pub mod node;

pub mod podgc;

pub mod reschedule;

pub mod serviceaccount;

pub mod disruption;

pub mod namespace;

pub mod garbage;

pub mod scheduler;

pub mod volumes;

pub mod leader;

mod manager;

pub use manager::{Config, ConfigError, Context, names, run};
