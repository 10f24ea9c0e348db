//! A lock-free list of single objects, last in first out, linked beside the objects.
//!
//! The head is the first object and a tag that changes with every exchange, as that of a list of
//! batches.

use crate::slab::{Arena, Handle};
use crate::sync::{AtomicU64, Ordering};

/// A list of objects that were freed while a cache was busy. All zero, it is empty.
#[derive(Debug)]
pub(crate) struct SpillList {
    head: AtomicU64,
}

/// Returns the head with a new first object.
const fn next(head: u64, first: u32) -> u64 {
    let tag = ((head >> 32) as u32).wrapping_add(1);
    (tag as u64) << 32 | first as u64
}

const fn first_of(head: u64) -> Option<Handle> {
    Handle::new(head as u32)
}

impl SpillList {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    /// Adds an object. Async-signal-safe.
    pub(crate) fn push(&self, arena: &Arena, object: Handle) {
        let link = arena.link(object);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head as u32, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire in `pop`: the link, and everything done to the
            // object, comes before its next use. Falls to `loom`
            // `an_object_freed_while_its_cache_is_busy_is_found_again`.
            match self.head.compare_exchange_weak(
                head,
                next(head, object.get()),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Returns true if the list looks empty at the moment.
    pub(crate) fn is_empty(&self) -> bool {
        first_of(self.head.load(Ordering::Relaxed)).is_none()
    }

    /// Takes the object that was added last. Async-signal-safe.
    pub(crate) fn pop(&self, arena: &Arena) -> Option<Handle> {
        loop {
            // ORDERING: Acquire pairs with the Release in `push`, directly or through the chain of
            // exchanges that follows it. Falls to `loom`
            // `an_object_freed_while_its_cache_is_busy_is_found_again`.
            let head = self.head.load(Ordering::Acquire);
            let object = first_of(head)?;
            // If another thread has taken the object meanwhile, its link is another one, and the
            // exchange fails.
            let rest = arena.link(object).load(Ordering::Relaxed);
            let rest = next(head, rest);
            if self
                .head
                .compare_exchange_weak(head, rest, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                return Some(object);
            }
        }
    }

    /// Returns the number of objects in the list, as far as the calling thread has seen.
    pub(crate) fn len(&self, arena: &Arena) -> u64 {
        let mut count = 0;
        // An object that leaves meanwhile makes the count wrong, not the walk unsafe: links are
        // atomic and never unmapped, and the bound ends a walk that has strayed to another list.
        let mut rest = first_of(self.head.load(Ordering::Relaxed));
        while let Some(object) = rest.filter(|_| count < 1 << 20) {
            rest = Handle::new(arena.link(object).load(Ordering::Relaxed));
            count += 1;
        }
        count
    }
}
