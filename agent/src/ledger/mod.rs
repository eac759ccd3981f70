//! What this agent created on this host.
