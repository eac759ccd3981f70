//! The life cycle against an engine in memory, and a little against the real one.

mod crash;
mod harness;
mod lifecycle;
mod real;
mod restored;
