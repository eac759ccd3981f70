//! Container environments: env, envFrom, fieldRef and service variables.
