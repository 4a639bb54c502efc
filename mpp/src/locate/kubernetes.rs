//! Addresses from Kubernetes.
use std::fmt;
use super::{Found, LocateError};

/// A service or pods.
#[derive(Debug)]
pub struct KubernetesLocator {}

impl KubernetesLocator {
    pub(super) async fn locate(&mut self) -> Result<Found, LocateError> {
        Err(LocateError::Kubernetes(String::new()))
    }
}
impl fmt::Display for KubernetesLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("kubernetes") }
}
