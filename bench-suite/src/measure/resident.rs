//! The memory of this process, as the system counts it. Zero where the system does not tell.

#[cfg(target_os = "linux")]
use std::fs;

/// Pages of this process that are in memory now, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// The most of it since [`forget_peak`], in bytes. Exact at every moment, not a sample: the
/// kernel keeps it. It counts in pages, and on several CPUs may be a few dozen of them behind.
pub(crate) fn peak_resident_bytes() -> u64 {
    status("VmHWM:")
}

/// Has the peak begin again from what is in memory now. Where the system refuses, the peak is
/// that of the whole process.
pub(crate) fn forget_peak() {
    #[cfg(target_os = "linux")]
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[cfg(target_os = "linux")]
fn status(field: &str) -> u64 {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// See the twin for Linux.
#[cfg(not(target_os = "linux"))]
fn status(_field: &str) -> u64 {
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_remembers_what_is_no_longer_there() {
        const BYTES: usize = 64 << 20;
        assert!(resident_bytes() > 0);
        let block = std::hint::black_box(vec![1_u8; BYTES]);
        drop(block);
        assert!(peak_resident_bytes() >= BYTES as u64);
    }
}
