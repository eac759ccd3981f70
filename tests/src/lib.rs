//! What the end-to-end tests share: a real cluster of our binaries on the machine's engine, and ways to ask it things.
//!
//! Owns every process and folder it makes and removes them again; touches nothing else. Tests wait for conditions with
//! [`eventually`], never for a time. The binaries come from the same target folder as the test itself.

pub mod attack;
mod cluster;
mod daemon;
mod disk;
mod etcd;
mod fleet;
mod http;
mod load;
mod percentiles;
mod process;
mod signals;
mod sockets;
mod wait;
mod workload;
mod world;

pub use cluster::{Cluster, Store, client_of};
pub use disk::fdatasync_p50_us;
pub use etcd::Etcd;
pub use fleet::{
    Agent, Engine, EngineContainer, EtcdTrio, Fleet, Host, Lan, Pool, Server, Swarm, Victim, Web, Writer, Written,
};
pub use http::{get, request};
pub use load::{Load, LoadReport};
pub use percentiles::percentiles;
pub use process::{Finished, binary, free_port, measured_drover, run, spawn_measured};
pub use signals::{told_to_end, unless_told_to_end};
pub use sockets::listeners;
pub use wait::eventually;

/// Whether this machine can run tests that need root and a Docker Engine; says so loudly when not.
///
/// `scripts/test.sh` decides and sets `DROVER_TEST_ENGINE=1`, so a plain `cargo test` on a laptop stays harmless.
pub fn engine_tests_enabled(test: &str) -> bool {
    let enabled = std::env::var("DROVER_TEST_ENGINE").is_ok_and(|value| value == "1");
    if !enabled {
        eprintln!("SKIPPED {test}: needs root and a Docker Engine (make test sets DROVER_TEST_ENGINE=1)");
    }
    enabled
}

/// Makes two tests of each async function `fn(Store) -> Result<()>`: one on the embedded store and one on etcd.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                if !$crate::engine_tests_enabled(stringify!($name)) { return Ok(()); }
                super::$name($crate::Store::Embedded).await
            })+
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                if !$crate::engine_tests_enabled(stringify!($name)) { return Ok(()); }
                super::$name($crate::Store::Etcd).await
            })+
        }
    };
}
