//! One endpoint before several Prometheus servers: chooses the best one (or some), sticks clients to them, and retries elsewhere
//! what one of them could not answer.
//!
//! Takes the place of matt-deboer/mpp. In reading order:
//!
//! * [`flags`]: the command line and the environment, word for word the original's
//! * [`config`]: what the words mean
//! * [`log_style`]: log lines as logrus writes them
//! * [`endpoint`]: the address of a server
//! * [`locate`]: where the addresses come from: a file, Kubernetes, Marathon
//! * [`backend`]: what is known of a server while the process lives: traffic, failures, ejection
//! * [`probe`]: asking a server what the strategies compare
//! * [`select`](mod@select): rounds of selection, and the strategies
//! * [`health`]: hangs noticed, servers let back in
//! * [`proxy`]: the way of a request: affinity, headers, attempts, streaming
//! * [`admin`]: `/mpp/health`, `/mpp/metrics`, `/mpp/status`
//! * [`front`]: the listener and its worker threads
//! * [`app`]: build, run, drain

pub mod admin;
pub mod app;
pub mod backend;
pub mod config;
pub mod endpoint;
pub mod flags;
pub mod front;
pub mod health;
pub mod locate;
pub mod log_style;
pub mod probe;
pub mod proxy;
pub mod select;
mod tls;
