//! The address of a server.

use std::{fmt, str::FromStr};

use http::Uri;
use rustls_pki_types::ServerName;

/// A server: `https://host[:port]`, port 6443 unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
}

/// The text is no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server {0:?} is not https://host[:port]")]
pub struct ServerError(String);

const PORT: u16 = 6443;

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ServerError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let plain = matches!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("/"));
        let https = uri.scheme_str() == Some("https") && plain;
        let host = uri.host().filter(|host| https && !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        Ok(Self { host, port: uri.port_u16().unwrap_or(PORT), name })
    }
}

impl Server {
    /// `host:port`, with the brackets of an IPv6 address.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "https://{}", self.authority())
    }
}
