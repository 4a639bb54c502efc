//! One endpoint before several Prometheus servers.
