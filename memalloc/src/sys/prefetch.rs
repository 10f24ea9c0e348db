//! Prefetching of memory that is about to be written.

/// Requests the cache line at `place` for this CPU alone. Has no other effect, and none at all on
/// processors other than x86-64.
#[inline(always)]
pub(crate) fn line_for_write(place: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri, counted))))]
    // SAFETY: it takes any address, and changes no memory. Every x86-64 processor that a current
    // Linux distribution or Windows supports accepts it.
    unsafe {
        std::arch::asm!(
            "prefetchw byte ptr [{place}]",
            place = in(reg) place,
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri, counted)))))]
    let _ = place;
}
