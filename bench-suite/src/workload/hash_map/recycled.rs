//! Memory for elements that costs next to nothing, to see what the table costs alone: each thread takes back
//! the one that it gave up last.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use hash_table::{ElementMemory, Shape};
use memalloc::rcu::Domain;
use memalloc::sync::AtomicU32;
use memalloc::{AllocError, Handle, Immediate, MemAlloc};

use super::ours::{Elements, allocator};
use crate::measure::WrongAnswer;

thread_local! {
    /// The element that this thread gave up last. A process has one such memory (INV-Y1).
    static LAST: Cell<Option<Handle>> = const { Cell::new(None) };
}

/// See above.
///
/// - INV-Y1: a process makes one of it, and its elements have one layout: the element that a thread keeps is
///   of this memory and layout.
pub(super) struct Recycled(Arc<MemAlloc<Immediate>>);

// SAFETY: objects are the allocator's; one that a thread keeps is nobody else's until it takes it again, for
// the same layout (INV-Y1).
unsafe impl ElementMemory for Recycled {
    const PROTECTS_IDENTITY: bool = false;

    fn domain(&self) -> &Domain {
        self.0.domain()
    }

    #[inline]
    fn alloc(&self, layout: Layout) -> Result<Handle, AllocError> {
        match LAST.take() {
            Some(last) => Ok(last),
            None => self.0.alloc_handle(layout),
        }
    }

    #[inline]
    unsafe fn free(&self, object: Handle, layout: Layout) {
        if let Some(other) = LAST.replace(Some(object)) {
            // SAFETY: the caller's promise when it was given up.
            unsafe { self.0.free_handle(other, layout) };
        }
    }

    #[inline]
    fn pointer(&self, object: Handle) -> NonNull<u8> {
        self.0.pointer(object)
    }

    #[inline]
    unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.word(object, index) }
    }
}

/// Elements that are recycled.
pub(super) struct Recycling;

impl Elements for Recycling {
    type Memory = Recycled;

    fn build(shape: Shape) -> Result<(Self, Recycled), WrongAnswer> {
        Ok((Self, Recycled(allocator(shape)?)))
    }

    /// Threads that have ended kept one each: there is nothing to check.
    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}
