//! The memory that the program's allocator has handed out: for subjects that keep their objects
//! there.
//!
//! It reads the allocator's own statistics, which cost nothing until they are read: counting every
//! allocation would slow down exactly the subjects that allocate.
#![allow(unsafe_code)]

/// Returns the bytes of all blocks in use, headers and rounding included; `None` if the system's
/// allocator has no statistics. Slow: it walks all free blocks.
pub(crate) fn bytes_in_use() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it may be called at any time, and locks what it reads.
        let books = unsafe { libc::mallinfo2() };
        Some((books.uordblks + books.hblkhd) as u64)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// Returns the growth since `before`; zero if there was none, `None` if it is unknown.
pub(crate) fn grown_since(before: Option<u64>) -> Option<u64> {
    Some(bytes_in_use()?.saturating_sub(before?))
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_from_its_allocation_on() {
        const BYTES: usize = 1 << 30;
        let before = bytes_in_use();
        let block = std::hint::black_box(vec![0_u8; BYTES]);
        // Other tests free memory at the same time, but less than that. (The block is never
        // touched.)
        assert!(grown_since(before).unwrap() >= BYTES as u64 / 2);
        drop(block);
    }
}
