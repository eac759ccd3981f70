//! Pod status from observations.
