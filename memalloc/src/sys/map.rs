//! Address space: reserved at once or as it grows, backed by memory piece by piece.
//!
//! INV-M1: what `reserve` and `extend` gave stays mapped, at the same place, until `unmap` takes
//! it back. What is not committed faults on access; what was released reads as zero or as what it
//! was, and can be written again.

use super::places;
use crate::sync::{AtomicUsize, Ordering};
use std::io;
use std::ptr::NonNull;

/// Reserves `bytes` of address space at a multiple of `align` (a power of two, at least a page),
/// with no memory behind it.
pub(crate) fn reserve(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
    // Ranges without gaps in between are one mapping for the system, of which it has few.
    let padding = if align > PAGE_BYTES { align } else { 0 };
    let padded = bytes.checked_add(padding).ok_or(io::ErrorKind::OutOfMemory)?;
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
    let before = if padding > 0 { start.align_offset(align) } else { 0 };
    // SAFETY: `before <= padding`, so the result is inside the mapping, and not null; what lies
    // before it and behind it is ours, and nobody knows of it.
    unsafe {
        let base = NonNull::new_unchecked(start.add(before));
        unmap(start, before);
        unmap(base.as_ptr().add(bytes), padded - before - bytes);
        Ok(base)
    }
}

/// The smallest page of the systems that are known.
const PAGE_BYTES: usize = 4096;

/// Addresses that are reserved whole by now, in all ranges of the process together.
static WHOLE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Finds `bytes` of address space: reserved whole where that leaves seven eighths of all addresses
/// to others and the process may have so many; or else none of them, at a place where they can be
/// had by [`extend`] one after the other, unless something else comes to lie there. Says how many
/// are reserved.
pub(crate) fn reserve_or_place(bytes: usize, align: usize) -> io::Result<(NonNull<u8>, usize)> {
    let most = places::address_space().map_or(usize::MAX, |all| all / 8);
    let fits = |whole: usize| whole.checked_add(bytes).filter(|&sum| sum <= most);
    let relaxed = Ordering::Relaxed;
    if !addresses_are_limited() && WHOLE_BYTES.fetch_update(relaxed, relaxed, fits).is_ok() {
        match reserve(bytes, align) {
            Ok(start) => return Ok((start, bytes)),
            Err(_) => _ = WHOLE_BYTES.fetch_sub(bytes, relaxed),
        }
    }
    place(bytes, align).map(|start| (start, 0))
}

/// Ends what [`reserve_or_place`] gave; `reserved` bytes of it are reserved by now.
///
/// # Safety
///
/// As [`unmap`], of the whole range.
pub(crate) unsafe fn unreserve(start: NonNull<u8>, reserved: usize) {
    // SAFETY: the caller's promise.
    unsafe { unmap(start.as_ptr(), reserved) };
    if !places::give(start.addr().get()) {
        WHOLE_BYTES.fetch_sub(reserved, Ordering::Relaxed);
    }
}

/// Whether this process may have so many addresses only (`ulimit -v`).
fn addresses_are_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: INV-S1: `limit` has room for the answer.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    told && limit.rlim_cur != libc::RLIM_INFINITY
}

/// A place for so many bytes where nothing is mapped at the moment.
fn place(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let start = places::take(bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        debug_assert!(start.is_multiple_of(align));
        let start = std::ptr::with_exposed_provenance_mut::<u8>(start);
        let mut resident = 0;
        // SAFETY: INV-S1: one page has room for its answer.
        let found = unsafe { libc::mincore(start.cast(), PAGE_BYTES, &mut resident) };
        if found != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOMEM) {
            return NonNull::new(start).ok_or_else(|| io::ErrorKind::OutOfMemory.into());
        }
        // Something is mapped there: that place stays taken.
    }
    Err(io::ErrorKind::OutOfMemory.into())
}

/// Reserves the bytes from `from` to before `to` of a range that begins at `start`.
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists): something else is mapped there.
///
/// # Safety
///
/// The range is the caller's, and nothing is reserved of it from `from` on.
pub(crate) unsafe fn extend(start: NonNull<u8>, from: usize, to: usize) -> io::Result<()> {
    let wanted = start.as_ptr().wrapping_add(from);
    // SAFETY: an anonymous mapping that replaces nothing (INV-S1).
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
    // Before Linux 4.17 the place is a wish.
    // SAFETY: it was mapped here, and nobody knows of it.
    unsafe { unmap(got.cast(), to - from) };
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Maps `bytes` that can be read only, all zero, with no memory behind them.
pub(crate) fn zeros(bytes: usize) -> io::Result<NonNull<u8>> {
    let start = reserve(bytes, PAGE_BYTES)?;
    // SAFETY: just mapped; INV-S1.
    if unsafe { libc::mprotect(start.as_ptr().cast(), bytes, libc::PROT_READ) } == 0 {
        return Ok(start);
    }
    let error = io::Error::last_os_error();
    // SAFETY: mapped here, and nobody knows of it.
    unsafe { unmap(start.as_ptr(), bytes) };
    Err(error)
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
