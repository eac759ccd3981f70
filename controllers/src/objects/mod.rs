//! Pure questions about objects that several controllers ask.

pub mod kinds;
pub mod owners;
pub mod pods;
pub mod selector;
