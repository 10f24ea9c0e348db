//! The heap of the experiments: each block has cache lines of its own. Fields share a line only if
//! the layout of their type puts them there, never because two blocks are neighbours.

use std::alloc::{GlobalAlloc, Layout, System};

struct Aligned;

/// Two cache lines: some processors fetch lines in pairs.
const ALIGN: usize = 128;

fn aligned(layout: Layout) -> Layout {
    layout.align_to(ALIGN).map_or(layout, |layout| layout.pad_to_align())
}

// SAFETY: forwards to the system's allocator, with an alignment and size that are no smaller.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract; a larger layout is not empty either.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract; `alloc` allocated the block with the same aligned layout.
        unsafe { System.dealloc(block, aligned(layout)) };
    }
}

#[global_allocator]
static HEAP: Aligned = Aligned;
