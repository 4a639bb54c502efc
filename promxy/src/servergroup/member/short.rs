//! Which queries had short answers the last time.
//!
//! To pack a short answer costs the server more than all else that it does for it, and costs here, too; on the way it saves nothing.
//! Queries come again and again, so the last answer tells how long the next will be.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::servergroup::request::Call;

/// How long a short answer is at most, in bytes that are not packed.
const SHORT: u64 = 8 << 10;

/// How many queries are remembered. One that takes the place of another costs it a packed answer.
const PLACES: usize = 256;

/// Queries whose last answer was short, by a hash of them.
#[derive(Debug)]
pub(super) struct ShortAnswers(Box<[AtomicU32; PLACES]>);

impl ShortAnswers {
    pub(super) fn none() -> Self {
        Self(Box::new([const { AtomicU32::new(0) }; PLACES]))
    }

    /// Returns what is remembered of a query.
    pub(super) fn of(&self, call: Call, text: &str) -> LastAnswer<'_> {
        let mut hasher = DefaultHasher::new();
        (call, text).hash(&mut hasher);
        let hash = hasher.finish();
        LastAnswer {
            place: &self.0[hash as usize % PLACES],
            // Zero is nobody.
            query: (hash >> 32) as u32 | 1,
        }
    }
}

/// What is remembered of one query.
#[derive(Debug)]
pub(super) struct LastAnswer<'s> {
    place: &'s AtomicU32,
    query: u32,
}

impl LastAnswer<'_> {
    /// Whether it is known to have been short.
    pub(super) fn was_short(&self) -> bool {
        self.place.load(Ordering::Relaxed) == self.query
    }

    /// Remembers how long a new answer is, in bytes that are not packed.
    pub(super) fn is_now(&self, length: u64) {
        match (length <= SHORT, self.was_short()) {
            (true, false) => self.place.store(self.query, Ordering::Relaxed),
            (false, true) => self.place.store(0, Ordering::Relaxed),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_as_short_as_its_last_answer() {
        let answers = ShortAnswers::none();
        let last = |text| answers.of(Call::Query, text);
        assert!(!last("up").was_short());
        last("up").is_now(SHORT);
        assert!(last("up").was_short());
        assert!(!answers.of(Call::QueryRange, "up").was_short());
        assert!(!last("down").was_short());
        last("down").is_now(SHORT + 1);
        assert!(last("up").was_short());
        last("up").is_now(SHORT + 1);
        assert!(!last("up").was_short());
    }

    #[test]
    fn most_of_some_queries_are_remembered() {
        let answers = ShortAnswers::none();
        let texts: Vec<String> = (0..50)
            .map(|number| format!("up{{a=\"{number}\"}}"))
            .collect();
        for text in &texts {
            answers.of(Call::Query, text).is_now(0);
        }
        let known = texts
            .iter()
            .filter(|text| answers.of(Call::Query, text).was_short());
        assert!(known.count() > 35);
    }
}
