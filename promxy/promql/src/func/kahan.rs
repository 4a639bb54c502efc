//! Compensated summation in Neumaier's form.
//!
//! Follows `util/kahansum` of the reference: a sum that overflows has no compensation.

/// A sum and what rounding took from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kahan {
    pub(crate) sum: f64,
    pub(crate) lost: f64,
}

impl Kahan {
    #[inline]
    pub(crate) fn add(self, value: f64) -> Self {
        let sum = self.sum + value;
        let lost = if self.sum.abs() >= value.abs() {
            self.sum - sum + value
        } else {
            value - sum + self.sum
        };
        Self {
            sum,
            lost: if sum.is_infinite() {
                0.0
            } else {
                self.lost + lost
            },
        }
    }

    pub(crate) fn total(self) -> f64 {
        self.sum + self.lost
    }
}

/// A mean that is a sum divided at the end, until the sum would overflow; from there on it is kept as a mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    sum: Kahan,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(crate) fn of(first: f64) -> Self {
        Self {
            sum: Kahan {
                sum: first,
                lost: 0.0,
            },
            count: 1.0,
            incremental: false,
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let sum = self.sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        let scaled = Kahan {
            sum: share * self.sum.sum,
            lost: share * self.sum.lost,
        };
        self.sum = scaled.add(value / self.count);
    }

    pub(crate) fn value(&self) -> f64 {
        if self.incremental {
            self.sum.total()
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}
