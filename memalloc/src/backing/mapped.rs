//! Addresses from the operating system, with memory behind what is used.

use super::Backing;
use crate::sys::map;
use std::alloc::Layout;
use std::io;
use std::ptr::NonNull;

/// Address space that the operating system reserves and backs page by page, as it is touched; the
/// memory of empty slabs goes back to it. The usual backing, on Linux.
#[derive(Clone, Copy, Debug, Default)]
#[doc(alias = "mmap")]
pub struct Mapped;

// SAFETY: INV-M1 is this contract; anonymous memory is zero until it is written, and a system
// call does not unwind and is async-signal-safe.
unsafe impl Backing for Mapped {
    /// The 64 GiB that handles reach: an address costs nothing until there is memory behind it.
    fn default_range_bytes(&self) -> u64 {
        64 << 30
    }

    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        map::reserve(layout.size(), layout.align())
    }

    /// Whole, where the process may have so many addresses and enough are left for others; or else
    /// in steps, at a place far from other mappings.
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
