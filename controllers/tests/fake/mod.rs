//! A small Kubernetes API in memory: enough of list, watch, create, merge patch and delete to run every controller,
//! with the faults that tests ask for. A tower service, so that `kube::Client` speaks to it as to a server.

mod http;
mod store;

pub(crate) use http::client;
pub(crate) use store::{Fake, Faults};
