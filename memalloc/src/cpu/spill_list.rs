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
            // ORDERING: Release pairs with the Acquire in `pop`: the link, and everything done to
            // the object, comes before its next use. Falls to `loom`
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

/// A thread takes the first object while another takes both and puts the first one back.
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::breaks::breaks;
    use crate::explore::{Model, Seen};
    use crate::sync::{AtomicBool, thread};
    use std::rc::Rc;

    type Pop = fn(&SpillList, &Arena) -> Option<Handle>;

    /// As `pop`, but the tag does not change.
    fn pop_untagged(list: &SpillList, arena: &Arena) -> Option<Handle> {
        // The same ordering as in `pop`.
        let head = list.head.load(Ordering::Acquire) as u32;
        let object = first_of(head.into())?;
        let rest = arena.link(object).load(Ordering::Relaxed);
        let exchanged = list.head.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now as u32 == head).then_some(now & !u64::from(u32::MAX) | u64::from(rest))
        });
        exchanged.is_ok().then_some(object)
    }

    fn run(pop: Pop, seen: &Seen) {
        let backing = crate::backing::usual();
        let arena = Arena::reserve(&backing, 1 << 16, false).expect("a range");
        let shared = Rc::new((arena, SpillList::new()));
        let (arena, list) = &*shared;
        for object in [1, 2].map(|number| Handle::new(number).expect("not 0")) {
            arena.carved(object, 1);
            list.push(arena, object);
        }
        let done = Rc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (shared, done) = (shared.clone(), done.clone());
            move || {
                let (arena, list) = &*shared;
                let (first, second) = (pop(list, arena), pop(list, arena));
                first.inspect(|&first| list.push(arena, first));
                done.store(true, Ordering::Relaxed);
                second
            }
        });
        // Loom does not see that a load may come after another thread's exchange of a word that the
        // thread has just loaded. It sees this.
        let _ = done.load(Ordering::Relaxed);
        let ours = pop(list, arena);
        let others = other.join().unwrap();
        let left = std::iter::from_fn(|| list.pop(arena)).take(3).count();
        let taken = usize::from(ours.is_some()) + usize::from(others.is_some());
        assert_eq!(taken + left, 2, "claim: each object is taken once");
        seen.note("each took one", taken == 2);
        seen.note("one is left", left == 1);
    }

    #[test]
    fn objects_are_taken_once_by_two_threads() {
        let happens = &["each took one", "one is left"];
        let name = "an object is taken beside one that comes back";
        let model = Model { name, bound: Some(3), least: 20, happens };
        model.explore(|seen| run(SpillList::pop, seen));
    }

    #[test]
    fn an_object_is_taken_twice_if_the_tag_stays() {
        let mutation = "tag of the spilled objects stays";
        breaks(mutation, "each object is taken once", || run(pop_untagged, &Seen::default()));
    }
}
