//! The streams the API server asks for through the tunnel: logs, exec, attach, port-forward, stats.
