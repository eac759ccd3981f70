//! Decisions over a small cluster of objects.
