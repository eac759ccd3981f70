//! The cache against a backend.
