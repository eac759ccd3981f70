//! The service proxy: Services and EndpointSlices as nftables maps in a table of our own.
//!
//! [`desired`] says what the table must hold, [`observe`] reads what it holds, [`diff`] is the change between the two;
//! [`run`] applies it and acknowledges the revision. Every chain is named after a hash of its contents, so that a name in
//! a map stands for exactly one behaviour, a change is "add the new chain; point the element at it; a second later, drop
//! the old one" in three transactions, and comparing names compares tables. Connections that are established stay where they are:
//! the kernel translates only the first packet of a connection by these maps.

mod balance;
mod base;
mod conntrack;
mod desired;
mod diff;
mod encode;
mod nft;
mod observe;
mod plan;
mod runner;
mod tables;

pub use conntrack::FlowTarget;
pub use desired::{ProxyConfig, ProxyInput, desired};
pub use diff::{Change, diff, left_over, sweep};
pub use nft::NftError;
pub use observe::{ObserveError, observe};
pub(crate) use runner::raise;
pub use runner::run;
pub use tables::{Chain, Observed, Tables};

#[cfg(test)]
mod tests;
