//! Address space: reserved at once, backed by memory piece by piece.
//!
//! INV-M1: a range that `reserve` gave stays mapped, at the same place, until `unmap` takes it
//! back. What is not committed faults on access; what was released reads as zero or as what it
//! was, and can be written again.

use std::io;
use std::ptr::NonNull;

/// Reserves `bytes` of address space at a multiple of `align` (a power of two, at least a page),
/// with no memory behind it.
pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
    let padded = bytes.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: an anonymous mapping at a place of the kernel's choice replaces nothing (INV-S1).
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
    // SAFETY: `before <= align`, so the result is inside the mapping, and not null; what lies
    // before it and behind it is ours, and nobody knows of it.
    unsafe {
        let base = NonNull::new_unchecked(start.add(before));
        unmap(start, before);
        unmap(base.as_ptr().add(bytes), padded - before - bytes);
        Ok(base)
    }
}

/// Puts memory (zero, until written) behind a part of a range. Idempotent.
///
/// # Safety
///
/// The part lies in a range that `reserve` gave and that is still mapped (INV-M1).
pub(crate) unsafe fn commit(part: NonNull<[u8]>) -> io::Result<()> {
    // SAFETY: the caller's promise; making memory accessible takes nothing from anybody.
    let result = unsafe {
        libc::mprotect(part.as_ptr().cast(), part.len(), libc::PROT_READ | libc::PROT_WRITE)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for huge pages behind a part of a range, where the system grants them.
///
/// # Safety
///
/// As [`commit`].
pub(crate) unsafe fn advise_huge(part: NonNull<[u8]>) {
    // SAFETY: the caller's promise; the advice changes no contents. A refusal costs speed only.
    unsafe { libc::madvise(part.as_ptr().cast(), part.len(), libc::MADV_HUGEPAGE) };
}

/// Asks for pages of the smallest size behind a part of a range, of which little is used.
///
/// # Safety
///
/// As [`commit`].
pub(crate) unsafe fn advise_small(part: NonNull<[u8]>) {
    // SAFETY: the caller's promise; the advice changes no contents. A refusal costs memory only.
    unsafe { libc::madvise(part.as_ptr().cast(), part.len(), libc::MADV_NOHUGEPAGE) };
}

/// Gives the memory of a part of a range back, which stays mapped; `false` when the system did
/// not take it.
///
/// # Safety
///
/// As [`commit`], and nobody needs what is in the part.
pub(crate) unsafe fn release(part: NonNull<[u8]>) -> bool {
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(part.as_ptr().cast(), part.len(), libc::MADV_DONTNEED) == 0 }
}

/// Ends a mapping, or a part of one.
///
/// # Safety
///
/// It lies in a range that `reserve` mapped, and nobody uses it any more (INV-M1).
pub(crate) unsafe fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}
