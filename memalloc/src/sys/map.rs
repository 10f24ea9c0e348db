//! Address space: reserved at once or as it grows, and backed by memory piece by piece.
//!
//! - MEM-M1: a range from `reserve` or `extend` stays mapped, at the same place, until `unmap` ends
//!   it. A part that is not committed faults on access. A part that was released reads as zero or
//!   as its old contents, and can be written again.

use super::places;
use crate::sync::{AtomicUsize, Ordering};
use std::io;
use std::ptr::NonNull;

/// Reserves `bytes` of address space at a multiple of `align` (a power of two, at least a page),
/// with no memory behind it, until [`unreserve`].
pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
    let start = map(bytes, align)?;
    WHOLE_BYTES.fetch_add(bytes, Ordering::Relaxed);
    Ok(start)
}

/// As `reserve`, until [`unmap`].
fn map(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
    // The system merges ranges without gaps between them into one mapping, and limits the number of
    // mappings.
    let padding = if align > PAGE_BYTES { align } else { 0 };
    let padded = bytes.checked_add(padding).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: an anonymous mapping at a place of the kernel's choice replaces nothing (MEM-S1).
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
    let before = if padding > 0 { start.align_offset(align) } else { 0 };
    // SAFETY: `before <= padding`, so the result is inside the mapping, and not null. The bytes
    // before it and behind it are ours, and nothing else refers to them.
    unsafe {
        let base = NonNull::new_unchecked(start.add(before));
        unmap(start, before);
        unmap(base.as_ptr().add(bytes), padded - before - bytes);
        Ok(base)
    }
}

/// The smallest page of the known systems.
const PAGE_BYTES: usize = 4096;

/// Bytes of address space that are reserved whole, in all ranges of the process together.
static WHOLE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Finds `bytes` of address space. Reserves them whole if whole ranges then take at most 1/8 of all
/// addresses and the process has no limit on addresses. Otherwise reserves none of them, and
/// returns a place where [`extend`] can reserve them one after the other, unless something else is
/// mapped there meanwhile. Returns the start and the number of bytes reserved.
pub(crate) fn reserve_or_place(bytes: usize, align: usize) -> io::Result<(NonNull<u8>, usize)> {
    let most = places::address_space().map_or(usize::MAX, |all| all / 8);
    let fits = |whole: usize| whole.checked_add(bytes).filter(|&sum| sum <= most);
    let relaxed = Ordering::Relaxed;
    if !addresses_are_limited() && WHOLE_BYTES.fetch_update(relaxed, relaxed, fits).is_ok() {
        match map(bytes, align) {
            Ok(start) => return Ok((start, bytes)),
            Err(_) => _ = WHOLE_BYTES.fetch_sub(bytes, relaxed),
        }
    }
    place(bytes, align).map(|start| (start, 0))
}

/// Ends a range from [`reserve`] or [`reserve_or_place`], of which `reserved` bytes are reserved by
/// now.
///
/// # Safety
///
/// As [`unmap`], for the whole range.
pub(crate) unsafe fn unreserve(start: NonNull<u8>, reserved: usize) {
    // SAFETY: the caller's promise.
    unsafe { unmap(start.as_ptr(), reserved) };
    if !places::give(start.addr().get()) {
        WHOLE_BYTES.fetch_sub(reserved, Ordering::Relaxed);
    }
}

/// Returns whether the addresses of this process are limited (`ulimit -v`).
fn addresses_are_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: MEM-S1: `limit` has room for the answer.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    told && limit.rlim_cur != libc::RLIM_INFINITY
}

/// Returns a place for `bytes` where nothing is mapped at the moment.
fn place(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let start = places::take(bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        debug_assert!(start.is_multiple_of(align));
        let start = std::ptr::with_exposed_provenance_mut::<u8>(start);
        let mut resident = 0;
        // SAFETY: MEM-S1: `resident` has room for the answer about one page.
        let found = unsafe { libc::mincore(start.cast(), PAGE_BYTES, &mut resident) };
        if found != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOMEM) {
            return NonNull::new(start).ok_or_else(|| io::ErrorKind::OutOfMemory.into());
        }
        // Something is mapped there: the place stays taken.
    }
    Err(io::ErrorKind::OutOfMemory.into())
}

/// Reserves the bytes `from..to` of a range that begins at `start`. Fails with
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something else is mapped there.
///
/// # Safety
///
/// The range must be the caller's, with nothing reserved from `from` on.
pub(crate) unsafe fn extend(start: NonNull<u8>, from: usize, to: usize) -> io::Result<()> {
    let wanted = start.as_ptr().wrapping_add(from);
    // SAFETY: an anonymous mapping that replaces nothing (MEM-S1).
    let got = unsafe {
        libc::mmap(
            wanted.cast(),
            to - from,
            libc::PROT_NONE,
            libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if got.expose_provenance() == wanted.addr() {
        return Ok(());
    }
    // Before Linux 4.17 the address is only a hint.
    // SAFETY: it was mapped here, and nothing else refers to it.
    unsafe { unmap(got.cast(), to - from) };
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Maps `bytes` of read-only zeros, with no memory behind them.
pub(crate) fn zeros(bytes: usize) -> io::Result<NonNull<u8>> {
    let start = map(bytes, PAGE_BYTES)?;
    // SAFETY: just mapped; MEM-S1.
    if unsafe { libc::mprotect(start.as_ptr().cast(), bytes, libc::PROT_READ) } == 0 {
        return Ok(start);
    }
    let error = io::Error::last_os_error();
    // SAFETY: mapped here, and nothing else refers to it.
    unsafe { unmap(start.as_ptr(), bytes) };
    Err(error)
}

/// Puts memory behind a part of a range; it is zero until written. Idempotent.
///
/// # Safety
///
/// The part must lie in a range from `reserve` that is still mapped (MEM-M1).
pub(crate) unsafe fn commit(part: NonNull<[u8]>) -> io::Result<()> {
    // SAFETY: the caller's promise. Making memory accessible takes nothing away.
    let result = unsafe {
        libc::mprotect(part.as_ptr().cast(), part.len(), libc::PROT_READ | libc::PROT_WRITE)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for huge pages behind a part of a range, if the system grants them.
///
/// # Safety
///
/// As [`commit`].
pub(crate) unsafe fn advise_huge(part: NonNull<[u8]>) {
    // SAFETY: the caller's promise; the advice changes no contents. A refusal costs speed only.
    unsafe { libc::madvise(part.as_ptr().cast(), part.len(), libc::MADV_HUGEPAGE) };
}

/// Asks for pages of the smallest size behind a part of a range that is little used.
///
/// # Safety
///
/// As [`commit`].
pub(crate) unsafe fn advise_small(part: NonNull<[u8]>) {
    // SAFETY: the caller's promise; the advice changes no contents. A refusal costs memory only.
    unsafe { libc::madvise(part.as_ptr().cast(), part.len(), libc::MADV_NOHUGEPAGE) };
}

/// Gives the memory of a part of a range back to the system. The part stays mapped. Returns `false`
/// if the system refused.
///
/// # Safety
///
/// As [`commit`]. The contents of the part must not be needed any more.
pub(crate) unsafe fn release(part: NonNull<[u8]>) -> bool {
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(part.as_ptr().cast(), part.len(), libc::MADV_DONTNEED) == 0 }
}

/// Ends a mapping, or a part of one.
///
/// # Safety
///
/// It must lie in a range that this module mapped, and must not be used any more (MEM-M1).
pub(crate) unsafe fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

#[cfg(all(test, not(loom), target_pointer_width = "64"))]
mod tests {
    use super::*;

    /// More than the ranges of all other tests together.
    const BYTES: usize = 4 << 40;

    #[test]
    fn a_range_that_is_gone_no_longer_counts_among_the_whole_ones() {
        let few = places::address_space().is_none_or(|all| all / 32 < BYTES);
        if few || addresses_are_limited() {
            return;
        }
        let gone = reserve(BYTES, PAGE_BYTES).expect("addresses");
        assert!(WHOLE_BYTES.load(Ordering::Relaxed) >= BYTES);
        // SAFETY: reserved above, and not used.
        unsafe { unreserve(gone, BYTES) };
        let (start, reserved) = reserve_or_place(PAGE_BYTES, PAGE_BYTES).expect("addresses");
        // SAFETY: as above.
        unsafe { unreserve(start, reserved) };
        assert_eq!(reserved, PAGE_BYTES, "there is room for whole ranges");
    }
}
