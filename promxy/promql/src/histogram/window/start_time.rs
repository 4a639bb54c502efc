//! Start times: what a sample's own claim of when its counter began says about resets.
//!
//! Follows `isStartTimestampReset` and `checkStartTimeOverlap` in `promql/functions.go`. Zero means that a start is not known.

/// Whether a sample's start time says that its counter began anew after the sample before it.
pub fn begins_anew(previous_start: i64, previous_time: i64, start: i64, time: i64) -> bool {
    if start == 0 || start >= time || start < previous_time {
        return false;
    }
    // A start at the sample before is that of a delta, unless that sample's own start was not known either.
    start > previous_time
        || previous_start <= previous_time && previous_start != 0 && previous_start != previous_time
}

/// Whether a sample began before its predecessor was taken, though not where that one began.
pub fn overlaps(previous_start: i64, previous_time: i64, start: i64) -> bool {
    start != 0 && start < previous_time && start != previous_start
}
