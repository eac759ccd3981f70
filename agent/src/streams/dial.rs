//! The way to a server inside the process. The way to one elsewhere is `join`'s.

use std::{fmt, io};

use async_trait::async_trait;
use tokio::io::DuplexStream;

use crate::seams::{TunnelDialer, TunnelIo};

/// What may lie between the two ends inside one process.
const DUPLEX_BYTES: usize = 256 * 1024;

type Accept = dyn Fn(DuplexStream) -> io::Result<()> + Send + Sync;

/// Dials a server in the same process.
pub struct InProcessDialer {
    accept: Box<Accept>,
}

impl InProcessDialer {
    /// Hands the far end of each dialled stream to `accept`, which must not block.
    pub fn new(accept: impl Fn(DuplexStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { accept: Box::new(accept) }
    }
}

impl fmt::Debug for InProcessDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessDialer")
    }
}

#[async_trait]
impl TunnelDialer for InProcessDialer {
    async fn dial(&self) -> io::Result<Box<dyn TunnelIo>> {
        let (near, far) = tokio::io::duplex(DUPLEX_BYTES);
        (self.accept)(far)?;
        Ok(Box::new(near))
    }
}
