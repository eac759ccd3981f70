//! Builds container configurations from pods.
