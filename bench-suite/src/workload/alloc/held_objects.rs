//! Raw objects that one thread holds, behind a safe interface.
//!
//! - BEN-HO1: the first `held` places are objects that the allocator handed out for the layout and
//!   that are exclusively held here; all other places are stale.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

use super::allocator::Allocator;
use super::opaque::opaque;

/// Up to `N` objects that one thread holds.
#[derive(Debug)]
pub(super) struct HeldObjects<'s, S: Allocator, const N: usize> {
    allocator: &'s S,
    layout: Layout,
    places: [NonNull<u8>; N],
    held: usize,
}

// SAFETY: the objects are exclusively held (BEN-HO1) and are not tied to a thread; the allocator is
// `Sync`, so any thread may free them.
unsafe impl<S: Allocator, const N: usize> Send for HeldObjects<'_, S, N> {}

impl<'s, S: Allocator, const N: usize> HeldObjects<'s, S, N> {
    /// Creates an empty holder, for objects of a layout that a stamp fits in.
    pub(super) fn new(allocator: &'s S, layout: Layout) -> Self {
        assert!(layout.size() >= size_of::<u64>() && layout.align() >= align_of::<u64>());
        Self { allocator, layout, places: [NonNull::dangling(); N], held: 0 }
    }

    /// Allocates until there are `N` objects, and writes a stamp into each: `stamp` into the first,
    /// and one more into each next one. Returns the number of objects held.
    #[inline]
    pub(super) fn fill(&mut self, stamp: u64) -> usize {
        // In registers: for all that the compiler knows, an allocator changes the fields.
        let Self { allocator, layout, ref mut places, mut held } = *self;
        while held < N {
            let Some(place) = allocator.alloc(layout) else { break };
            let place = opaque(place);
            // SAFETY: the object was just handed out for a layout that a stamp fits in, and is
            // exclusively held.
            unsafe { place.cast::<u64>().write(stamp + held as u64) };
            places[held] = place;
            held += 1;
        }
        self.held = held;
        held
    }

    /// Frees all objects, oldest first. Returns how many still had the stamp that
    /// [`HeldObjects::fill`] wrote.
    #[inline]
    pub(super) fn empty(&mut self, stamp: u64) -> usize {
        let Self { allocator, layout, ref places, .. } = *self;
        let held = std::mem::take(&mut self.held);
        let mut intact = 0;
        for (&place, stamp) in places[..held].iter().zip(stamp..) {
            let place = opaque(place);
            // SAFETY: the object is held (BEN-HO1), and `fill` wrote a stamp into it.
            intact += usize::from(unsafe { place.cast::<u64>().read() } == stamp);
            // SAFETY: the object came from this allocator with this layout (BEN-HO1). It is not
            // used again: `held` no longer counts it.
            unsafe { allocator.free(place, layout) };
        }
        intact
    }
}

/// Allocates an object, writes a stamp into it, compares it and frees the object, for each of the
/// stamps. Stops at an allocation that fails. Returns how many succeeded, and how many objects
/// still had their stamp. Keeps everything in registers, unlike [`HeldObjects`].
#[inline]
pub(super) fn one_by_one<S: Allocator>(
    allocator: &S,
    layout: Layout,
    stamps: Range<u64>,
) -> (usize, usize) {
    assert!(layout.size() >= size_of::<u64>() && layout.align() >= align_of::<u64>());
    let (mut served, mut intact) = (0, 0);
    for stamp in stamps {
        let Some(place) = allocator.alloc(layout).map(opaque) else { break };
        served += 1;
        // SAFETY: the object was just handed out for a layout that a stamp fits in, and is
        // exclusively held.
        unsafe { place.cast::<u64>().write(stamp) };
        let place = opaque(place);
        // SAFETY: as above, and it has been written.
        intact += usize::from(unsafe { place.cast::<u64>().read() } == stamp);
        // SAFETY: the object came from this allocator with this layout, and is not used again.
        unsafe { allocator.free(place, layout) };
    }
    (served, intact)
}

impl<S: Allocator, const N: usize> Drop for HeldObjects<'_, S, N> {
    fn drop(&mut self) {
        self.empty(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::measure::WrongAnswer;
    use crate::workload::alloc::allocator::SystemMalloc;

    /// Hands out the same object again and again while it is still in use.
    struct Careless {
        object: NonNull<u8>,
        out: AtomicUsize,
    }

    // SAFETY: only the one thread of the test uses the object.
    unsafe impl Sync for Careless {}

    impl Allocator for Careless {
        fn alloc(&self, _layout: Layout) -> Option<NonNull<u8>> {
            self.out.fetch_add(1, Relaxed);
            Some(self.object)
        }

        unsafe fn free(&self, _place: NonNull<u8>, _layout: Layout) {
            self.out.fetch_sub(1, Relaxed);
        }

        fn held_bytes(&self) -> Option<u64> {
            None
        }

        fn close(self) -> Result<(), WrongAnswer> {
            Ok(())
        }
    }

    fn layout() -> Layout {
        Layout::new::<[u64; 8]>()
    }

    #[test]
    fn an_object_that_was_handed_out_twice_is_detected() {
        let mut object = [0_u64; 8];
        let allocator = Careless { object: NonNull::from(&mut object).cast(), out: 0.into() };
        let mut objects = HeldObjects::<_, 4>::new(&allocator, layout());
        assert_eq!((objects.fill(100), objects.empty(100)), (4, 1));
        assert_eq!(allocator.out.load(Relaxed), 0);
    }

    #[test]
    fn every_held_object_is_freed_once() {
        let mut object = [0_u64; 8];
        let allocator = Careless { object: NonNull::from(&mut object).cast(), out: 0.into() };
        let mut objects = HeldObjects::<_, 3>::new(&allocator, layout());
        assert_eq!((objects.fill(7), objects.fill(7)), (3, 3));
        assert_eq!(allocator.out.load(Relaxed), 3);
        drop(objects);
        assert_eq!(allocator.out.load(Relaxed), 0);
    }

    #[test]
    fn the_system_serves_distinct_objects() {
        let mut objects = HeldObjects::<_, 64>::new(&SystemMalloc, layout());
        for stamp in [0, 64, 128] {
            assert_eq!((objects.fill(stamp), objects.empty(stamp)), (64, 64));
        }
    }
}
