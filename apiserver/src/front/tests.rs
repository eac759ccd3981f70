//! The order of the checks, seen from outside.
