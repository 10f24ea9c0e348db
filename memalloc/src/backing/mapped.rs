//! Address space from the operating system, with memory for the parts in use.

use super::Backing;
use crate::sys::map;
use std::alloc::Layout;
use std::io;
use std::ptr::NonNull;

/// Address space that the operating system reserves and backs page by page, as it is touched. The
/// memory of empty slabs is returned to the system. This is the default backing on Linux.
#[derive(Clone, Copy, Debug, Default)]
#[doc(alias = "mmap")]
pub struct Mapped;

// SAFETY: MEM-M1 is this contract; anonymous memory is zero until it is written, and a system call
// does not unwind and is async-signal-safe.
unsafe impl Backing for Mapped {
    /// Returns the 64 GiB that handles can address: addresses cost nothing until they have memory.
    fn default_range_bytes(&self) -> u64 {
        64 << 30
    }

    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        map::reserve(layout.size(), layout.align())
    }

    /// Reserves the whole range, if the process may have that many addresses and leaves enough for
    /// others; otherwise reserves it in steps, at a place far from other mappings.
    fn reserve_growing(&self, layout: Layout) -> io::Result<(NonNull<u8>, usize)> {
        map::reserve_or_place(layout.size(), layout.align())
    }

    unsafe fn grow(&self, start: NonNull<u8>, reserved: usize, wanted: usize) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { map::extend(start, reserved, wanted) }
    }

    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { map::commit(part) }
    }

    unsafe fn release(&self, part: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { map::release(part) }
    }

    unsafe fn advise_huge(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { map::advise_huge(part) };
    }

    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { map::advise_small(part) };
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { map::unreserve(start, layout.size()) };
    }
}
