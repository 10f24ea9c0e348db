//! A range of address space: reserved at once, backed by memory piece by piece.
//!
//! INV-M1: the range stays mapped, at the same place, until the `Region` is dropped. What is not
//! committed faults on access; what was released reads as zero or as what it was, and can be
//! written again.

use std::io;
use std::ptr::NonNull;

/// A reserved range.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    bytes: usize,
    align: usize,
}

// SAFETY: a `Region` is an address range; what may be done with the bytes is its owner's matter.
unsafe impl Send for Region {}
// SAFETY: as above; every method is a system call that the kernel serialises.
unsafe impl Sync for Region {}

impl Region {
    /// The first address, a multiple of the alignment asked for.
    #[inline(always)]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn contains(&self, offset: usize, bytes: usize) -> bool {
        offset.checked_add(bytes).is_some_and(|end| end <= self.bytes)
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Region {
    /// Reserves `bytes` of address space at a multiple of `align` (a power of two, at least a
    /// page), with no memory behind it.
    pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<Self> {
        let padded = bytes.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: an anonymous mapping at a place of the kernel's choice replaces nothing
        // (INV-S1).
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                padded,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(align);
        // SAFETY: `before <= align`, so the result is inside the mapping, and not null.
        let base = unsafe { NonNull::new_unchecked(start.add(before)) };
        unmap(start, before);
        // SAFETY: still inside the mapping: `before + bytes <= padded`.
        unmap(unsafe { base.as_ptr().add(bytes) }, padded - before - bytes);
        Ok(Self { base, bytes, align })
    }

    /// Puts memory (zero, until written) behind a part of the range. Idempotent.
    pub(crate) fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        debug_assert!(self.contains(offset, bytes));
        // SAFETY: the part lies inside our own mapping (INV-M1), and making it accessible takes
        // nothing from anybody.
        let result = unsafe {
            libc::mprotect(
                self.base.as_ptr().add(offset).cast(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Asks for huge pages behind a part of the range, where the system grants them.
    pub(crate) fn advise_huge(&self, offset: usize, bytes: usize) {
        self.advise(offset, bytes, libc::MADV_HUGEPAGE);
    }

    /// Gives the memory of a part of the range back; the part stays mapped.
    pub(crate) fn release(&self, offset: usize, bytes: usize) {
        self.advise(offset, bytes, libc::MADV_DONTNEED);
    }

    fn advise(&self, offset: usize, bytes: usize, advice: libc::c_int) {
        debug_assert!(self.contains(offset, bytes));
        // SAFETY: the part lies inside our own mapping (INV-M1); the caller of `release` has
        // nothing of value there, and other advice changes no contents. A refusal costs memory
        // or speed, never correctness, so the result does not matter.
        unsafe { libc::madvise(self.base.as_ptr().add(offset).cast(), bytes, advice) };
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: called only for parts of a mapping of ours that nobody uses (INV-M1).
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Drop for Region {
    fn drop(&mut self) {
        debug_assert!(self.base.as_ptr().addr().is_multiple_of(self.align));
        unmap(self.base.as_ptr(), self.bytes);
    }
}

/// The twin: one block of the global allocator, all of it committed from the start. It can't
/// reserve without holding, so its owner asks for little.
#[cfg(not(all(target_os = "linux", not(miri))))]
impl Region {
    pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<Self> {
        let layout = std::alloc::Layout::from_size_align(bytes, align)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the callers reserve at least a page.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes, align })
    }

    pub(crate) fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        debug_assert!(self.contains(offset, bytes));
        Ok(())
    }

    pub(crate) fn advise_huge(&self, offset: usize, bytes: usize) {
        debug_assert!(self.contains(offset, bytes));
    }

    pub(crate) fn release(&self, offset: usize, bytes: usize) {
        debug_assert!(self.contains(offset, bytes));
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the layout is the one that `reserve` allocated with.
        unsafe {
            let layout = std::alloc::Layout::from_size_align_unchecked(self.bytes, self.align);
            std::alloc::dealloc(self.base.as_ptr(), layout);
        }
    }
}
