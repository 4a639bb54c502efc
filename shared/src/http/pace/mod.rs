//! How long a client may keep a server waiting: for taking an answer, and for sending a request. Originals in Go have such
//! limits where somebody has set them; without any, a client that stops costs a connection and an answer for ever.
//!
//! * [`Paced`]: a stream of which the client has to take something in the time that it is given
//! * [`Answers`], [`Answer`]: the same for each answer of HTTP/2, where a client can stop one of many
//! * [`Arriving`]: a request's body, which has to come at some speed
//!
//! Only the time in which a client is waited for counts: an answer that is slow to be made is no fault of the client's.

mod answers;
mod arriving;
mod stream;

use std::time::Duration;

pub use self::{
    answers::{Answer, Answers},
    arriving::{Arriving, TooSlow},
    stream::Paced,
};

/// How long a client may take nothing of an answer, or send next to nothing of a request, if nobody says otherwise.
pub const STALL: Duration = Duration::from_secs(60);
