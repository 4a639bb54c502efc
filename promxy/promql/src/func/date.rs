//! Calendar dates of the proleptic Gregorian calendar, UTC.
//!
//! Follows what Go's `time` does with any 64-bit number of seconds, wrapping around included, which is what NaN turns into; pinned
//! by `functions.test`.

use crate::gomath::to_i64;

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_400_YEARS: u64 = 146_097;

/// The year from whose first of March days are counted; a multiple of 400 before any time that can be named.
const FIRST_YEAR: i64 = -292_277_022_400;

/// The days from then to the first of January 1970.
const DAYS_TO_1970: u64 = FIRST_YEAR.unsigned_abs() / 400 * DAYS_PER_400_YEARS + 719_468;

/// A date with the time of day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// From one.
    pub(crate) month: u64,
    /// From one.
    pub(crate) day: u64,
    /// From one.
    pub(crate) day_of_year: u64,
    /// From Sunday, zero.
    pub(crate) day_of_week: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
}

impl Date {
    /// Returns the date of a number of seconds since 1970, cut towards zero.
    pub(crate) fn of(seconds: f64) -> Self {
        Self::from_seconds(to_i64(seconds))
    }

    pub(crate) fn from_seconds(seconds: i64) -> Self {
        let since_first = (seconds as u64).wrapping_add(DAYS_TO_1970 * SECONDS_PER_DAY);
        let days = since_first / SECONDS_PER_DAY;
        let of_day = since_first % SECONDS_PER_DAY;

        // Years that begin in March have their leap day last, so months have lengths that repeat every five.
        let (eras, day_of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
        let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let is_next_year = month_from_march >= 10;
        let month = if is_next_year {
            month_from_march - 9
        } else {
            month_from_march + 3
        };
        let year = FIRST_YEAR
            .wrapping_add((eras * 400 + year_of_era) as i64)
            .wrapping_add(i64::from(is_next_year));

        let january_and_february = 59 + u64::from(is_leap(year));
        let day_of_year = if is_next_year {
            from_march - 306 + 1
        } else {
            from_march + january_and_february + 1
        };
        Self {
            year,
            month,
            day,
            day_of_year,
            // The first day was a Wednesday.
            day_of_week: (days + 3) % 7,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
        }
    }

    pub(crate) fn days_in_month(&self) -> u64 {
        match self.month {
            2 => 28 + u64::from(is_leap(self.year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let f = |seconds: i64, expected: (i64, u64, u64, u64, u64)| {
            let date = Date::from_seconds(seconds);
            let got = (
                date.year,
                date.month,
                date.day,
                date.day_of_year,
                date.day_of_week,
            );
            assert_eq!(got, expected, "{seconds}");
        };
        f(0, (1970, 1, 1, 1, 4));
        f(951_782_400, (2000, 2, 29, 60, 2));
        f(951_868_800, (2000, 3, 1, 61, 3));
        f(978_220_800, (2000, 12, 31, 366, 0));
        f(-1, (1969, 12, 31, 365, 3));
        f(-2_203_891_200, (1900, 3, 1, 60, 4));
    }
}
