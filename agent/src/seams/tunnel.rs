//! The byte stream to a server on which the agent answers requests.

use std::{fmt, io};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Opens the tunnel: over TLS with an HTTP upgrade, or in process.
#[async_trait]
pub trait TunnelDialer: Send + Sync + fmt::Debug {
    /// Dials a server and returns the stream on which the agent then serves HTTP/2.
    async fn dial(&self) -> io::Result<Box<dyn TunnelIo>>;
}

/// A stream both ways.
pub trait TunnelIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> TunnelIo for T {}

impl fmt::Debug for dyn TunnelIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelIo")
    }
}
