//! Nearly free memory for elements, to measure the table alone: each thread reuses the element that
//! it freed last.
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
use crate::measure::{NoReadings, WrongAnswer};

thread_local! {
    /// The element that this thread freed last. A process has one such memory (BEN-Y1).
    static LAST: Cell<Option<Handle>> = const { Cell::new(None) };
}

/// Memory in which each thread reuses the element that it freed last.
///
/// - BEN-Y1: a process builds this once, and its elements have one layout: the element that a
///   thread keeps is of this memory and layout.
pub(super) struct Recycled(Arc<MemAlloc<Immediate>>);

// SAFETY: objects come from the allocator; one that a thread keeps is exclusively held until the
// thread takes it again, for the same layout (BEN-Y1).
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
            // SAFETY: the caller's promise when it was freed.
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

    fn build(shape: Shape) -> Result<(Self, Recycled), NoReadings> {
        Ok((Self, Recycled(allocator(shape)?)))
    }

    /// Does nothing: each ended thread has kept one element.
    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}
