//! The heap of the experiments: every block on cache lines of its own, so that what shares a line
//! does so by the layout of a type, and not by the accidents of an allocator.

use std::alloc::{GlobalAlloc, Layout, System};

struct Aligned;

/// Two lines, which some processors fetch together.
const ALIGN: usize = 128;

fn aligned(layout: Layout) -> Layout {
    layout.align_to(ALIGN).map_or(layout, |layout| layout.pad_to_align())
}

// SAFETY: the system's allocator, asked for more.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a layout that is larger is not empty either.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; it was allocated with this layout.
        unsafe { System.dealloc(block, aligned(layout)) };
    }
}

#[global_allocator]
static HEAP: Aligned = Aligned;
