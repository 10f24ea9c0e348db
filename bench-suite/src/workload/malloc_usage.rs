//! What the program's allocator has given out: the memory of those who keep their objects there.
//!
//! The allocator's own books are read, which costs a program nothing before it is asked: counting
//! every allocation would slow down exactly those who allocate.
#![allow(unsafe_code)]

/// Bytes of all blocks that are in use now, their headers and what they are rounded up by
/// included; `None` where the system's allocator does not tell. Not cheap: it looks through all
/// free blocks.
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

/// How many more they are than before; zero if there are fewer.
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
        // Other tests free meanwhile, but not as much as that. (It is never touched.)
        assert!(grown_since(before).unwrap() >= BYTES as u64 / 2);
        drop(block);
    }
}
