//! Pod volumes: what a container's volume mounts point to.
