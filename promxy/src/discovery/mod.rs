//! Where the servers of a group are: the sources of the configuration, and the clients they are asked with.
//!
//! [`client_settings`] makes an HTTP client's settings of what the configuration says, for sources and for server groups
//! alike.

mod client;
mod environment;

pub use self::{
    client::{ClientSettingsError, client_settings},
    environment::Environment,
};
