//! The service proxy: nftables maps from Services and EndpointSlices.
