//! Raw objects in the hand of one thread, behind a safe face.
//!
//! - INV-O1: the first `held` places of a hand are objects that its source gave out for its
//!   layout and that nobody else knows of; all its other places are stale.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::arch::asm;
use std::ptr::NonNull;

use super::source::Source;

/// Up to `N` objects in the hand of one thread.
#[derive(Debug)]
pub(super) struct Hand<'s, S: Source, const N: usize> {
    source: &'s S,
    layout: Layout,
    places: [NonNull<u8>; N],
    held: usize,
}

// SAFETY: the objects belong to the hand alone (INV-O1) and have no tie to a thread; the source
// is `Sync`, so that any thread may give them back.
unsafe impl<S: Source, const N: usize> Send for Hand<'_, S, N> {}

impl<'s, S: Source, const N: usize> Hand<'s, S, N> {
    /// An empty hand, for objects of a layout that a stamp fits in.
    pub(super) fn new(source: &'s S, layout: Layout) -> Self {
        assert!(layout.size() >= size_of::<u64>() && layout.align() >= align_of::<u64>());
        Self { source, layout, places: [NonNull::dangling(); N], held: 0 }
    }

    /// See [`Source::enter`].
    pub(super) fn enter(&self) {
        self.source.enter();
    }

    /// Takes objects until the hand is full, and writes a stamp into each: the first one's
    /// given, each other one more than the one before. Returns how many the hand holds.
    #[inline]
    pub(super) fn fill(&mut self, stamp: u64) -> usize {
        while self.held < N {
            let Some(place) = self.source.take(self.layout) else { break };
            let place = shown(place);
            // SAFETY: the object was just given out for a layout that a stamp fits in, and is
            // nobody else's.
            unsafe { place.cast::<u64>().write(stamp + self.held as u64) };
            self.places[self.held] = place;
            self.held += 1;
        }
        self.held
    }

    /// Gives all objects back, oldest first. Returns how many still had the stamp that
    /// [`Hand::fill`] wrote.
    #[inline]
    pub(super) fn empty(&mut self, stamp: u64) -> usize {
        let held = std::mem::take(&mut self.held);
        let mut intact = 0;
        for (&place, stamp) in self.places[..held].iter().zip(stamp..) {
            let place = shown(place);
            // SAFETY: the object is held (INV-O1), and `fill` wrote a stamp into it.
            intact += usize::from(unsafe { place.cast::<u64>().read() } == stamp);
            // SAFETY: the object came from this source with this layout (INV-O1). It is not
            // used again: `held` does not count it any more.
            unsafe { self.source.give(place, self.layout) };
        }
        intact
    }
}

/// The same place, of which the optimiser must believe that somebody else has looked at it. It
/// stays in a register: `black_box` would send it through memory, which takes as long as an
/// allocation.
#[inline(always)]
fn shown(place: NonNull<u8>) -> NonNull<u8> {
    let mut shown = place.as_ptr();
    // SAFETY: there is no instruction, so what goes in comes out.
    unsafe {
        asm!("/* {shown} */", shown = inout(reg) shown, options(nostack, preserves_flags));
        NonNull::new_unchecked(shown)
    }
}

impl<S: Source, const N: usize> Drop for Hand<'_, S, N> {
    fn drop(&mut self) {
        self.empty(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::measure::WrongAnswer;
    use crate::workload::alloc::source::SystemMalloc;

    /// Gives out the same object again and again while it is still in use.
    struct Careless {
        object: NonNull<u8>,
        out: AtomicUsize,
    }

    // SAFETY: the object is only used by the one thread of the test.
    unsafe impl Sync for Careless {}

    impl Source for Careless {
        fn take(&self, _layout: Layout) -> Option<NonNull<u8>> {
            self.out.fetch_add(1, Relaxed);
            Some(self.object)
        }

        unsafe fn give(&self, _place: NonNull<u8>, _layout: Layout) {
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
    fn an_object_that_was_handed_out_twice_is_noticed() {
        let mut object = [0_u64; 8];
        let source = Careless { object: NonNull::from(&mut object).cast(), out: 0.into() };
        let mut hand = Hand::<_, 4>::new(&source, layout());
        assert_eq!((hand.fill(100), hand.empty(100)), (4, 1));
        assert_eq!(source.out.load(Relaxed), 0);
    }

    #[test]
    fn a_hand_gives_everything_back_once() {
        let mut object = [0_u64; 8];
        let source = Careless { object: NonNull::from(&mut object).cast(), out: 0.into() };
        let mut hand = Hand::<_, 3>::new(&source, layout());
        assert_eq!((hand.fill(7), hand.fill(7)), (3, 3));
        assert_eq!(source.out.load(Relaxed), 3);
        drop(hand);
        assert_eq!(source.out.load(Relaxed), 0);
    }

    #[test]
    fn the_system_serves_distinct_objects() {
        let mut hand = Hand::<_, 64>::new(&SystemMalloc, layout());
        for stamp in [0, 64, 128] {
            assert_eq!((hand.fill(stamp), hand.empty(stamp)), (64, 64));
        }
    }
}
