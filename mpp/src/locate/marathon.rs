//! Addresses from Marathon.
use std::fmt;
use super::{Found, LocateError};

/// Applications.
#[derive(Debug)]
pub struct MarathonLocator {}

impl MarathonLocator {
    pub(super) async fn locate(&mut self) -> Result<Found, LocateError> {
        Err(LocateError::Marathon(String::new()))
    }
}
impl fmt::Display for MarathonLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("marathon") }
}
