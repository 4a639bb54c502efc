//! The allocator, and its numbers for the console's `memstats`.
//!
//! mimalloc, with a count of calls and bytes around it. The data path does not allocate per line, so counting costs nothing
//! that could be measured. This is the one module of the tool with `unsafe` in it.

use std::{
    alloc::{GlobalAlloc, Layout},
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use mimalloc::MiMalloc;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);
static FREED_BYTES: AtomicU64 = AtomicU64::new(0);

/// The allocator of the program; see the module.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed on, with its arguments unchanged, to mimalloc, which keeps the contract of `GlobalAlloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation(layout.size());
        // SAFETY: the caller keeps this method's contract, which is that of the callee.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_free(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_allocation(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_free(layout.size());
        count_allocation(new_size);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, new_size) }
    }
}

/// The allocator's numbers since the start, and the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Calls that gave memory.
    pub allocations: u64,
    /// Calls that took it back.
    pub frees: u64,
    /// Bytes given.
    pub allocated_bytes: u64,
    /// Bytes taken back.
    pub freed_bytes: u64,
    /// Bytes of the process in memory, by the kernel's account.
    pub resident_bytes: u64,
}

/// Returns the numbers as they stand now. All but the last are zero in a program without [`Counting`].
pub fn stats() -> Stats {
    // Frees first: what is freed in between was allocated before, so no difference of the two can be negative.
    let (frees, freed_bytes) = (FREES.load(Relaxed), FREED_BYTES.load(Relaxed));
    Stats {
        allocations: ALLOCATIONS.load(Relaxed).max(frees),
        frees,
        allocated_bytes: ALLOCATED_BYTES.load(Relaxed).max(freed_bytes),
        freed_bytes,
        resident_bytes: resident_bytes().unwrap_or(0),
    }
}

/// `VmRSS` of this process; `None` where there is no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kibibytes| kibibytes * 1_024)
}

fn count_allocation(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    ALLOCATED_BYTES.fetch_add(bytes as u64, Relaxed);
}

fn count_free(bytes: usize) {
    FREES.fetch_add(1, Relaxed);
    FREED_BYTES.fetch_add(bytes as u64, Relaxed);
}
