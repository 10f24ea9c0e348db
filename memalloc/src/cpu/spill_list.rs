//! A lock-free list of single objects, linked beside the objects. It can only be taken whole.

use crate::slab::{Arena, Handle};
use crate::sync::{AtomicU32, Ordering};

/// A list of objects that were freed while a cache was busy. All zero, it is empty.
#[derive(Debug)]
pub(crate) struct SpillList {
    head: AtomicU32,
}

impl SpillList {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { head: AtomicU32::new(0) }
    }

    /// Adds an object. Async-signal-safe.
    pub(crate) fn push(&self, arena: &Arena, object: Handle) {
        let link = arena.link(object);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire in `take_all`: the link, and everything done
            // to the object, comes before its next use. Falls to `loom`
            // `an_object_freed_while_its_cache_is_busy_is_found_again`.
            match self.head.compare_exchange_weak(
                head,
                object.get(),
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
        self.head.load(Ordering::Relaxed) == 0
    }

    /// Takes the whole list and gives each object to `receive`. Async-signal-safe.
    pub(crate) fn take_all(&self, arena: &Arena, mut receive: impl FnMut(Handle)) {
        if self.is_empty() {
            return;
        }
        // ORDERING: Acquire pairs with the Release in `push`. The list is taken whole, so an object
        // cannot return during an exchange that is under way. Falls to `loom`
        // `an_object_freed_while_its_cache_is_busy_is_found_again`.
        let mut next = Handle::new(self.head.swap(0, Ordering::Acquire));
        while let Some(object) = next {
            next = Handle::new(arena.link(object).load(Ordering::Relaxed));
            receive(object);
        }
    }

    /// Takes the object that was added last. The others are off the list for a moment.
    /// Async-signal-safe.
    pub(crate) fn take_one(&self, arena: &Arena) -> Option<Handle> {
        let mut first = None;
        self.take_all(arena, |object| match first {
            None => first = Some(object),
            Some(_) => self.push(arena, object),
        });
        first
    }

    /// Returns the number of objects in the list, as far as the calling thread has seen.
    pub(crate) fn len(&self, arena: &Arena) -> u64 {
        let mut count = 0;
        // An object that leaves meanwhile makes the count wrong, not the walk unsafe: links are
        // atomic and never unmapped, and the bound ends a walk that has strayed to another list.
        let mut next = Handle::new(self.head.load(Ordering::Relaxed));
        while let Some(object) = next.filter(|_| count < 1 << 20) {
            next = Handle::new(arena.link(object).load(Ordering::Relaxed));
            count += 1;
        }
        count
    }
}
