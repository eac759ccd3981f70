//! The registry through its own interface.
