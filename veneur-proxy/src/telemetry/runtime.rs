//! The memory of the process, as the kernel counts it.
//!
//! The originals report what Go's runtime knows. There is no such runtime here: sizes are the kernel's, and what only a
//! garbage collector has is 0.

use std::fs;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// In memory, and nobody else's: heap and stacks.
    pub(super) anonymous: u64,
    /// Set aside for data.
    pub(super) data: u64,
    /// Of the first thread's stack.
    pub(super) stack: u64,
    /// In memory, shared pages included.
    pub(super) resident: u64,
}

impl Memory {
    /// Asks the kernel. What it does not say is 0.
    pub(super) fn now() -> Self {
        fs::read_to_string("/proc/self/status")
            .map_or_else(|_| Self::default(), |text| Self::read(&text))
    }

    fn read(status: &str) -> Self {
        let size = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kib * 1024)
        };
        let size = |name| size(name).unwrap_or(0);
        Self {
            anonymous: size("RssAnon:"),
            data: size("VmData:"),
            stack: size("VmStk:"),
            resident: size("VmRSS:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_bytes() {
        let status =
            "Name:\tx\nVmData:\t  100 kB\nVmStk:\t 132 kB\nVmRSS:\t9 kB\nRssAnon:\t 8 kB\n";
        let expected = Memory {
            anonymous: 8 << 10,
            data: 100 << 10,
            stack: 132 << 10,
            resident: 9 << 10,
        };
        assert_eq!(Memory::read(status), expected);
        assert!(Memory::now().resident > 0);
    }
}
