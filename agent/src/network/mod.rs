//! The pod network of one host: name spaces, addresses, bridge and runtime wrapper.
