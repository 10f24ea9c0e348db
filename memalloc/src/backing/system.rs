//! Memory from the system's allocator.

use super::Backing;
use std::alloc::{GlobalAlloc, Layout};
use std::io;
use std::ptr::NonNull;

/// Blocks of the system's allocator ([`std::alloc::System`]), allocated whole at the start: for
/// operating systems that cannot reserve addresses, for Miri, and for tools that detect memory
/// errors.
///
/// It holds all that it reserves until the allocator ends: set
/// [`range_bytes`](crate::Builder::range_bytes), or accept the default of 64 MiB. (Most operating
/// systems provide memory for a large block only as far as it is touched.)
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

/// Stored in front of a range: the block that the range lies in.
type Block = *mut u8;

/// Returns the layout of the block for a range. It has room to align the range, since zeroed blocks
/// of common alignment need not be touched to be zero, and for the pointer in front.
fn block_for(range: Layout) -> Option<Layout> {
    let room = range.align().checked_add(size_of::<Block>())?;
    Layout::from_size_align(range.size().checked_add(room)?, align_of::<Block>()).ok()
}

// SAFETY: a block belongs to the caller alone until it is deallocated, is zero at first, and all of
// it can be read and written; the system's allocator does not unwind, and the methods that have to
// be async-signal-safe do nothing.
unsafe impl Backing for System {
    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        let whole = block_for(layout).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout is not empty: there is room for a pointer.
        let block: Block = unsafe { std::alloc::System.alloc_zeroed(whole) };
        if block.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: `room` covers the pointer and the bytes skipped behind it; an aligned place
        // behind an aligned pointer leaves room for a pointer, which is aligned as the block is.
        unsafe {
            let least = block.add(size_of::<Block>());
            let start = least.add(least.align_offset(layout.align().max(align_of::<Block>())));
            start.cast::<Block>().sub(1).write(block);
            Ok(NonNull::new_unchecked(start))
        }
    }

    unsafe fn commit(&self, _part: NonNull<[u8]>) -> io::Result<()> {
        Ok(())
    }

    unsafe fn release(&self, _part: NonNull<[u8]>) -> bool {
        false
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout) {
        let Some(whole) = block_for(layout) else {
            unreachable!("the range was reserved");
        };
        // SAFETY: by the caller's promise `reserve` wrote the block's address in front.
        unsafe { std::alloc::System.dealloc(start.cast::<Block>().sub(1).read(), whole) };
    }
}
