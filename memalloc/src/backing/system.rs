//! Memory from the system's allocator.

use super::Backing;
use std::alloc::{GlobalAlloc, Layout};
use std::io;
use std::ptr::NonNull;

/// Blocks of the system's allocator ([`std::alloc::System`]), whole from the start: for operating
/// systems that can't reserve addresses, for Miri, and for tools that look for memory errors.
///
/// It holds as much as it reserves, until the allocator ends: choose
/// [`range_bytes`](crate::Builder::range_bytes), or have the 64 MiB that it takes by itself. (Most
/// operating systems put memory behind a large block only as far as it is touched.)
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

/// In front of a range: the block that it lies in.
type Block = *mut u8;

/// The block for a range: room to align it, as zeroed blocks of common alignment need not be
/// touched to be zero, and for the pointer in front.
fn block_for(range: Layout) -> Option<Layout> {
    let room = range.align().checked_add(size_of::<Block>())?;
    Layout::from_size_align(range.size().checked_add(room)?, align_of::<Block>()).ok()
}

// SAFETY: a block is the caller's alone until it is deallocated, zero at first, and all of it can
// be read and written; the system's allocator does not unwind, and the methods that have to be
// async-signal-safe do nothing.
unsafe impl Backing for System {
    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        let whole = block_for(layout).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: not empty: there is room for a pointer.
        let block: Block = unsafe { std::alloc::System.alloc_zeroed(whole) };
        if block.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: `room` covers the pointer and what is skipped behind it; an aligned place behind
        // an aligned pointer leaves room for one, which is aligned as the block is.
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
