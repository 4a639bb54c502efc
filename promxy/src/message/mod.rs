//! Requests and answers, as those see them who answer: what the web server and the API have in common.
//!
//! * [`Request`]: one request; [`form`]: its parameters
//! * [`answer`]: texts, errors and redirects

pub mod answer;
pub mod form;

use std::net::SocketAddr;

use axum::body::Bytes;
use http::{HeaderMap, Method};

use self::form::Form;

/// A request with its body.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The headers.
    pub headers: HeaderMap,
    /// The parameters of URL and body.
    pub form: Form,
    /// The query of the URL, as it came.
    pub query: String,
    /// What stands for the open part of the route, without escapes.
    pub open: Vec<u8>,
    /// The path, for logs.
    pub path: String,
    /// The body.
    pub body: Bytes,
    /// Who asks.
    pub peer: SocketAddr,
}
