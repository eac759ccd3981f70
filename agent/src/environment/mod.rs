//! Container environments: env, envFrom, fieldRef and service variables.
//!
//! [`resolve`](resolve::resolve) decides, purely, over values that [`ApiEnvironment`] has fetched. Values are never
//! logged: they hold secrets (faults A52).

pub(crate) mod fields;
mod needs;
mod resolve;
mod services;
mod source;

pub(crate) use resolve::find_container;
pub use source::ApiEnvironment;
