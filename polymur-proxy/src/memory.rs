//! The 25 numbers that the original reports of Go's memory, by the same names, because dashboards know them. What has a
//! meaning here is filled, from the kernel's account; the rest is 0.

use std::fs;

/// The names, sorted, and what each means here.
const NAMES: [(&str, Meaning); 25] = [
    ("Alloc", |kernel| kernel.resident),
    ("BuckHashSys", zero),
    ("Frees", zero),
    ("GCSys", zero),
    ("HeapAlloc", |kernel| kernel.resident),
    ("HeapIdle", zero),
    ("HeapInuse", |kernel| kernel.resident),
    ("HeapObjects", zero),
    ("HeapReleased", zero),
    ("HeapSys", |kernel| kernel.peak),
    ("LastGC", zero),
    ("Lookups", zero),
    ("MCacheInuse", zero),
    ("MCacheSys", zero),
    ("MSpanInuse", zero),
    ("MSpanSys", zero),
    ("Mallocs", zero),
    ("NextGC", zero),
    ("NumGC", zero),
    ("OtherSys", zero),
    ("PauseTotalNs", zero),
    ("StackInuse", |kernel| kernel.stack),
    ("StackSys", |kernel| kernel.stack),
    ("Sys", |kernel| kernel.peak),
    ("TotalAlloc", |kernel| kernel.peak),
];

type Meaning = fn(&Kernel) -> u64;

/// What the kernel says of this process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kernel {
    resident: u64,
    peak: u64,
    stack: u64,
}

/// Returns the numbers as they stand now, sorted by name.
pub(crate) fn numbers() -> [(&'static str, u64); 25] {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kernel = Kernel::parse(&status);
    NAMES.map(|(name, value)| (name, value(&kernel)))
}

fn zero(_: &Kernel) -> u64 {
    0
}

impl Kernel {
    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let number = line.trim().strip_suffix("kB")?.trim();
            number
                .parse::<u64>()
                .ok()
                .map(|kibibytes| kibibytes * 1_024)
        };
        Self {
            resident: field("VmRSS:").unwrap_or(0),
            peak: field("VmHWM:").unwrap_or(0),
            stack: field("VmStk:").unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_is_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nVmStk:\t 132 kB\n";
        assert_eq!(
            Kernel::parse(status),
            Kernel {
                resident: 1 << 20,
                peak: 2 << 20,
                stack: 132 << 10
            }
        );
        assert!(NAMES.is_sorted_by_key(|(name, _)| name));
    }
}
