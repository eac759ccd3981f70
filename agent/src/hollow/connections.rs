//! A few HTTP/2 connections to one server, shared by many nodes.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

/// Nodes that share a connection. Each holds some six watches open, and Kubernetes' API server takes 100 streams on a
/// connection.
const NODES_PER_CONNECTION: usize = 12;
/// What may be on its way on one connection, and on one of its streams.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// A server that does not answer a ping within the second time is gone, and the connection is made anew.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// The connections of a fleet. Each is dialled when it is first used, and again after it broke.
#[derive(Debug)]
pub(super) struct Connections {
    config: Config,
    clients: Vec<HttpClient<HttpsConnector<HttpConnector>, Body>>,
}

impl Connections {
    /// Prepares the connections for a number of nodes.
    ///
    /// # Errors
    /// When the configuration holds unusable credentials.
    pub(super) fn new(config: Config, nodes: usize) -> Result<Self, kube::Error> {
        let tls = config.rustls_client_config()?;
        let make = || {
            let mut connector = HttpConnector::new();
            connector.enforce_http(false);
            connector.set_nodelay(true);
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
            let connector = builder.enable_http2().wrap_connector(connector);
            HttpClient::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .http2_only(true)
                .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
                .http2_keep_alive_interval(PING_EVERY)
                .http2_keep_alive_timeout(PING_PATIENCE)
                .build(connector)
        };
        let clients = (0..nodes.div_ceil(NODES_PER_CONNECTION).max(1)).map(|_| make()).collect();
        Ok(Self { config, clients })
    }

    /// The client of one node; it acts as `identity`, where one is given.
    ///
    /// # Errors
    /// When the identity cannot stand in a header.
    pub(super) fn client(&self, node: usize, identity: Option<&str>) -> Result<Client, kube::Error> {
        let mut config = self.config.clone();
        if let Some(user) = identity {
            config.auth_info.impersonate = Some(user.to_owned());
            config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned()]);
        }
        let http = self.clients.get(node / NODES_PER_CONNECTION).or_else(|| self.clients.last());
        let http = http.cloned().ok_or(kube::Error::TlsRequired)?;
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(BoxError::from)
            .service(http);
        Ok(Client::new(service, config.default_namespace.clone()))
    }
}
