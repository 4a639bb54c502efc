//! What a group of servers is made of, apart from connections.
//!
//! * [`decode`]: what their answers hold
//! * [`targets`]: from discovered labels to a URL and the labels of its series
//! * [`time_range`]: for which times a group is asked

pub mod decode;
pub mod targets;
pub mod time_range;
