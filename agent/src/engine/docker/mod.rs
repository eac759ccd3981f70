//! Docker.
/// Docker.
#[derive(Debug)]
pub struct DockerEngine;
