//! One value for each time of a query.

/// How many bits a word of the bitmap has.
const WORD: usize = 64;

/// The values of a series on a grid.
///
/// A number that is not there is zero in `values` and has no bit in the bitmap; NaN is a number that is there. Histograms, which
/// are rare, stand in a list by place. A place has a number or a histogram, not both.
#[derive(Clone, Debug, PartialEq)]
pub struct Column<H> {
    values: Vec<f64>,
    present: Vec<u64>,
    /// Sorted by place.
    histograms: Vec<(u32, H)>,
}

impl<H> Column<H> {
    /// Returns a column of a length with nothing in it.
    pub fn empty(length: usize) -> Self {
        Self {
            values: vec![0.0; length],
            present: vec![0; length.div_ceil(WORD)],
            histograms: Vec::new(),
        }
    }

    /// Returns how many places there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Puts a number at a place, which must be there. It replaces what was.
    pub fn set(&mut self, place: usize, value: f64) {
        self.remove_histogram(place);
        self.values[place] = value;
        self.present[place / WORD] |= 1 << (place % WORD);
    }

    /// Puts a histogram at a place, which must be there. It replaces what was.
    pub fn set_histogram(&mut self, place: usize, histogram: H) {
        self.values[place] = 0.0;
        self.present[place / WORD] &= !(1 << (place % WORD));
        match self
            .histograms
            .binary_search_by_key(&(place as u32), |entry| entry.0)
        {
            Ok(at) => self.histograms[at].1 = histogram,
            Err(at) => self.histograms.insert(at, (place as u32, histogram)),
        }
    }

    fn remove_histogram(&mut self, place: usize) {
        if self.histograms.is_empty() {
            return;
        }
        if let Ok(at) = self
            .histograms
            .binary_search_by_key(&(place as u32), |entry| entry.0)
        {
            self.histograms.remove(at);
        }
    }

    /// Returns the number at a place, if one is there.
    pub fn get(&self, place: usize) -> Option<f64> {
        let word = self.present.get(place / WORD)?;
        (word >> (place % WORD) & 1 == 1).then(|| self.values[place])
    }

    /// Returns places and histograms in the order of places.
    pub fn histograms(&self) -> &[(u32, H)] {
        &self.histograms
    }

    /// Returns how many numbers are there.
    pub fn count(&self) -> usize {
        self.present
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether a number is at every place.
    pub fn is_full(&self) -> bool {
        self.count() == self.values.len()
    }

    /// Returns all places' values, of which those without a bit in [`Column::bitmap`] mean nothing.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Returns which places have a number: bit `n % 64` of word `n / 64`.
    pub fn bitmap(&self) -> &[u64] {
        &self.present
    }

    /// Takes the column apart: values, bitmap, histograms.
    pub fn into_parts(self) -> (Vec<f64>, Vec<u64>, Vec<(u32, H)>) {
        (self.values, self.present, self.histograms)
    }

    /// Returns places and numbers, where there is one.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        self.present
            .iter()
            .enumerate()
            .flat_map(move |(number, word)| {
                let mut left = *word;
                std::iter::from_fn(move || {
                    let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                    left &= left - 1;
                    let place = number * WORD + bit;
                    Some((place, self.values[place]))
                })
            })
    }

    /// Takes from another column of the same length the numbers at places that have neither number nor histogram here.
    pub fn fill_from(&mut self, other: &Self) {
        for (number, (own, others)) in self.present.iter_mut().zip(&other.present).enumerate() {
            let mut missing = others & !*own;
            for (place, _) in &self.histograms {
                if *place as usize / WORD == number {
                    missing &= !(1 << (*place as usize % WORD));
                }
            }
            *own |= missing;
            while missing != 0 {
                let place = number * WORD + missing.trailing_zeros() as usize;
                missing &= missing - 1;
                self.values[place] = other.values[place];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_histograms_take_each_others_places() {
        let mut column = Column::empty(130);
        column.set(129, f64::NAN);
        column.set(3, 1.0);
        column.set(64, 2.0);
        column.set_histogram(64, "h");
        column.set_histogram(5, "g");
        column.set(5, 4.0);
        let numbers: Vec<(usize, String)> = column
            .iter()
            .map(|(place, v)| (place, v.to_string()))
            .collect();
        let expected =
            [(3, "1"), (5, "4"), (129, "NaN")].map(|(place, text)| (place, text.to_owned()));
        assert_eq!(numbers, expected);
        assert_eq!(column.histograms(), [(64, "h")]);
        assert_eq!(
            (column.count(), column.get(4), column.get(500)),
            (3, None, None)
        );
    }

    #[test]
    fn missing_numbers_are_filled() {
        let (mut a, mut b) = (Column::empty(3), Column::empty(3));
        a.set(0, 1.0);
        a.set_histogram(1, "h");
        for place in 0..3 {
            b.set(place, 9.0);
        }
        a.fill_from(&b);
        assert_eq!(a.iter().collect::<Vec<_>>(), [(0, 1.0), (2, 9.0)]);
    }
}
