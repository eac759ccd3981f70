//! The two views of an event.
