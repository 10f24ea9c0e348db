//! The memory of this process, as counted by the system. Zero if the system does not report it.

#[cfg(target_os = "linux")]
use std::fs;

/// Returns the resident memory of this process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// Returns the peak since [`forget_peak`], in bytes. It is exact at every moment: the kernel
/// maintains it. It counts pages, and may lag by a few dozen of them on several CPUs.
pub(crate) fn peak_resident_bytes() -> u64 {
    status("VmHWM:")
}

/// Resets the peak to the resident memory. If the system refuses, the peak is that of the whole
/// process.
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

/// See the version for Linux.
#[cfg(not(target_os = "linux"))]
fn status(_field: &str) -> u64 {
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_includes_freed_memory() {
        const BYTES: usize = 64 << 20;
        assert!(resident_bytes() > 0);
        let block = std::hint::black_box(vec![1_u8; BYTES]);
        drop(block);
        assert!(peak_resident_bytes() >= BYTES as u64);
    }
}
