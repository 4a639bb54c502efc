//! What is kept of the groups around the place that is read.

/// What is known of a part of the pattern.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Whether it can match nothing.
    pub(super) is_empty: bool,
    /// How often its innermost piece is repeated at most, as far as that was counted out.
    pub(super) repetitions: u32,
}

impl Part {
    pub(super) const NOTHING: Self = Self {
        is_empty: true,
        repetitions: 1,
    };
    pub(super) const CHARACTER: Self = Self {
        is_empty: false,
        repetitions: 1,
    };

    pub(super) fn then(self, next: Self) -> Self {
        Self {
            is_empty: self.is_empty && next.is_empty,
            repetitions: self.repetitions.max(next.repetitions),
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            is_empty: self.is_empty || other.is_empty,
            repetitions: self.repetitions.max(other.repetitions),
        }
    }
}

/// An open group, or the whole pattern.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// The alternatives before the current one.
    pub(super) alternatives: Option<Part>,
    /// The current alternative up to its last piece.
    pub(super) before: Part,
    /// The last piece, to which a repetition applies.
    pub(super) last: Option<Part>,
    /// Where the last piece begins in the translation.
    pub(super) last_start: usize,
    /// Where the group itself begins in the translation.
    pub(super) start: usize,
    /// How often the last piece was repeated.
    pub(super) last_repeats: usize,
    /// The flags in force.
    pub(super) flags: Flags,
    /// The flags in force at the end of the translation.
    pub(super) written_flags: Flags,
}

impl Group {
    pub(super) fn new(start: usize, flags: Flags, written_flags: Flags) -> Self {
        Self {
            alternatives: None,
            before: Part::NOTHING,
            last: None,
            last_start: start,
            start,
            last_repeats: 0,
            flags,
            written_flags,
        }
    }

    pub(super) fn push(&mut self, part: Part, start: usize) {
        self.before = self.alternative();
        self.last = Some(part);
        self.last_start = start;
        self.last_repeats = 0;
    }

    pub(super) fn alternative(&self) -> Part {
        self.last.map_or(self.before, |last| self.before.then(last))
    }

    pub(super) fn next_alternative(&mut self) {
        *self = Self {
            alternatives: Some(self.whole()),
            ..Self::new(self.start, self.flags, self.written_flags)
        };
    }

    pub(super) fn whole(&self) -> Part {
        let alternative = self.alternative();
        self.alternatives
            .map_or(alternative, |others| others.or(alternative))
    }
}

/// The flags of a pattern: `i`, `m`, `s` and `U`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags([bool; 4]);

impl Flags {
    const NAMES: [char; 4] = ['i', 'm', 's', 'U'];

    /// Sets or clears the flag with a name; says whether there is one.
    pub(super) fn put(&mut self, name: char, value: bool) -> bool {
        let index = Self::NAMES.iter().position(|flag| *flag == name);
        if let Some(index) = index {
            self.0[index] = value;
        }
        index.is_some()
    }

    /// Returns the names of the flags with a value.
    pub(super) fn with(self, value: bool) -> impl Iterator<Item = char> {
        let flags = Self::NAMES.into_iter().zip(self.0);
        flags.filter(move |flag| flag.1 == value).map(|flag| flag.0)
    }
}
