//! Requests through `route`, without a connection.

mod delete;
mod list;
mod lost;
mod races;
mod verbs;
mod watch;
