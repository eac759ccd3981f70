//! The parts of the simulated cluster: the shipping server, controllers and agents, each with a life that can end.

mod cluster;
mod controllers;
mod hosts;
mod node;
mod server;

pub(crate) use cluster::Cluster;
pub(crate) use node::{IMAGES, Node};
pub(crate) use server::ServerBox;
