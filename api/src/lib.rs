//! Object kinds as data: the schema table and everything that is a pure function of it.
//!
//! Owns kinds, field types, defaulting, validation, selectors, quantities, patches, tables and the error
//! vocabulary of the API. May not do I/O, read a clock or be async. Everything else in Drover depends on it.

pub mod kinds;
pub mod schema;

pub mod decode;
pub mod defaults;
pub mod protobuf;
pub mod validate;

pub mod labels;
pub mod names;
pub mod quantity;

pub mod ingress;
pub mod patch;
pub mod placement;
pub mod table;

pub mod audit;
pub mod events;
pub mod openapi;

pub mod backup;
pub mod restored;

pub mod object;
pub mod status;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod mutants;
