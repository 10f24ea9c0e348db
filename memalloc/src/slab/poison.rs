//! Tells AddressSanitizer which memory must not be accessed: with `--cfg poison`, the objects that
//! are in their slabs. An object goes there only when no reader that its policy knows can reach it
//! (MEM-L2), so a reader that still does so is reported.
//!
//! If slabs keep their class, words are read through handles of any age, and nothing is poisoned.

use std::ptr::NonNull;

#[cfg(poison)]
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const u8, bytes: usize);
    fn __asan_unpoison_memory_region(start: *const u8, bytes: usize);
}

/// Forbids accesses to some bytes.
#[cfg(poison)]
pub(super) fn poison(start: NonNull<u8>, bytes: usize) {
    // SAFETY: marks memory in the sanitizer's own tables; no invariant is needed.
    unsafe { __asan_poison_memory_region(start.as_ptr(), bytes) };
}

/// Allows accesses again.
#[inline(always)]
pub(super) fn unpoison(_start: NonNull<u8>, _bytes: usize) {
    #[cfg(poison)]
    // SAFETY: as in `poison`.
    unsafe {
        __asan_unpoison_memory_region(_start.as_ptr(), _bytes);
    }
}
