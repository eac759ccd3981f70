//! Requests through `route`, without a connection.
