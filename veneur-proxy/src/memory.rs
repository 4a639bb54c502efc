//! The one setting of the allocator.
//!
//! mimalloc keeps memory that was freed for a second in case it is needed again. Batches pass from thread to thread, and under
//! load that second is worth a third of all memory in use; after a hundredth of it nothing is slower, and it is gone.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay`, which the crate has no name for.
const PURGE_DELAY: mi_option_t = 15;

/// How long freed memory stays, in milliseconds.
const KEPT: i64 = 10;

/// Lets the allocator give memory back soon. To be called before there are other threads.
#[expect(unsafe_code, reason = "the allocator's options are C")]
pub fn give_back_soon() {
    // SAFETY: the function stores a number in a table of its own, at a place that is there; nobody else uses that table yet.
    unsafe { mi_option_set(PURGE_DELAY, KEPT) };
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the allocator's options are C")]
    fn the_option_is_the_delay() {
        // SAFETY: as above; this reads.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        // A second is the default, and no other option's.
        assert_eq!(get(), 1000);
        give_back_soon();
        assert_eq!(get(), KEPT);
    }
}
