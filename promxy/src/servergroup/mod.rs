//! Groups of servers: who they are, how they are asked, and what their answers hold.
//!
//! In reading order:
//!
//! * [`Groups`]: all groups; what queries and the API ask; `unite`: their answers, put together
//! * `group`: the targets of a group, and their answers as one; `scatter`: when answers are enough; `coverage`: which
//!   replica saw more
//! * `member`: one target: what it is asked, and what is made of its answers
//! * `request`, `body`, `gzip`: what goes over the wire, both ways
//! * [`decode`]: what answers hold
//! * [`targets`]: from discovered labels to a URL and the labels of its series; `keeper`: the tasks behind
//! * [`time_range`]: for which times a group is asked
//! * `metrics`: what is counted

mod body;
mod coverage;
pub mod decode;
mod group;
mod groups;
mod gzip;
mod keeper;
mod member;
mod metrics;
mod request;
mod scatter;
pub mod targets;
pub mod time_range;
mod unite;

pub use groups::{Groups, NotReady, PrepareError, Prepared};
