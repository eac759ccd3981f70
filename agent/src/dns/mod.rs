//! The DNS server on the node's bridge gateway.
