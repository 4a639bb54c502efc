//! Carries Graphite lines to a polymur gateway.
