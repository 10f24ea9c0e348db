//! The memory of a table of hints: zeros, from the global heap, or from the system if it is large.
//!
//! Keys are hashed, so a large table is accessed in all of its pages alike, and an access waits for
//! the translation of its address as long as for the memory. So the memory of a large table is
//! aligned to huge pages, and has them if the system has any, except behind the last whole one.

use std::alloc::Layout;
use std::ptr::NonNull;

/// Memory of this size comes from the system. The size of a huge page, and its alignment.
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
const LARGE: usize = 2 << 20;

/// Memory from the system is a multiple of this: the largest ordinary page of the known systems.
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
const STEP: usize = 64 << 10;

/// Allocates memory that is filled with zeros; `None` if there is none.
///
/// # Safety
///
/// The layout has a size.
pub(super) unsafe fn allocate(layout: Layout) -> Option<NonNull<u8>> {
    #[cfg(all(target_os = "linux", not(any(loom, miri))))]
    if let Some(layout) = large(layout) {
        use memalloc::backing::{Backing, Mapped};
        let start = Mapped.reserve(layout).ok()?;
        let all = NonNull::slice_from_raw_parts(start, layout.size());
        // SAFETY: it is the whole range that was just reserved, or is given back here.
        unsafe {
            if Mapped.commit(all).is_err() {
                Mapped.unreserve(start, layout);
                return None;
            }
            Mapped.advise_huge(all);
        }
        return Some(start);
    }
    // SAFETY: the caller's promise.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
}

/// Frees memory.
///
/// # Safety
///
/// It was allocated with this layout, and is not used again.
pub(super) unsafe fn free(start: NonNull<u8>, layout: Layout) {
    // SAFETY: the caller's promise; `allocate` made the same choice.
    unsafe {
        #[cfg(all(target_os = "linux", not(any(loom, miri))))]
        if let Some(layout) = large(layout) {
            use memalloc::backing::{Backing, Mapped};
            return Mapped.unreserve(start, layout);
        }
        std::alloc::dealloc(start.as_ptr(), layout);
    }
}

/// Returns the number of bytes that memory of this layout takes.
pub(super) fn bytes_of(layout: Layout) -> usize {
    #[cfg(all(target_os = "linux", not(any(loom, miri))))]
    let layout = large(layout).unwrap_or(layout);
    layout.size()
}

/// Returns the layout of memory that comes from the system; `None` if it comes from the heap.
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
fn large(layout: Layout) -> Option<Layout> {
    let size = layout.size().checked_next_multiple_of(STEP)?;
    (layout.size() >= LARGE).then(|| Layout::from_size_align(size, LARGE).ok())?
}

#[cfg(all(test, target_os = "linux", not(any(loom, miri))))]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_is_zero_can_be_written_and_is_hardly_larger() {
        for size in [64, LARGE - 64, LARGE, LARGE + 64, LARGE + STEP, 2 * LARGE - 64] {
            let layout = Layout::from_size_align(size, 64).expect("a layout");
            assert!(
                (size..size + STEP).contains(&bytes_of(layout)),
                "{} for {size}",
                bytes_of(layout)
            );
            // SAFETY: the layout has a size; the memory is initialised, and not used afterwards.
            unsafe {
                let start = allocate(layout).expect("memory");
                let bytes = NonNull::slice_from_raw_parts(start, size).as_mut();
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes.fill(1);
                free(start, layout);
            }
        }
    }
}
