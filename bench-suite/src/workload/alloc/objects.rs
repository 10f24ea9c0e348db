//! Raw objects behind a safe face: the one place of the suite that allocates and frees by
//! pointer.
//!
//! - INV-O1: the first `held` places of a hand are objects that its source gave out for its
//!   layout and that nobody else knows of; all its other places are stale.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ptr::NonNull;

use memalloc::{MemAlloc, ReusePolicy};

use crate::measure::WrongAnswer;

/// Gives out memory.
pub(super) trait Source: Sync {
    /// Memory for a layout of at least eight bytes, or `None` if there is no more.
    fn take(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// `place` came from [`Source::take`] of this source with this layout, and is not used any
    /// more.
    unsafe fn give(&self, place: NonNull<u8>, layout: Layout);

    /// Bytes held from the system, where that can be known.
    fn held_bytes(&self) -> Option<u64>;

    /// Takes leave of the source, once everything has been given back to it, and checks that
    /// nothing was lost.
    fn close(self) -> Result<(), WrongAnswer>;
}

impl<P: ReusePolicy> Source for MemAlloc<P> {
    #[inline]
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.alloc(layout).ok().map(NonNull::cast)
    }

    #[inline]
    unsafe fn give(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is the one that `free` asks for.
        unsafe { self.free(place, layout) }
    }

    fn held_bytes(&self) -> Option<u64> {
        Some(self.backing_bytes())
    }

    fn close(self) -> Result<(), WrongAnswer> {
        self.quiesce()
            .map_err(|error| WrongAnswer(format!("waiting for a grace period failed: {error}")))?;
        let stats = self.stats();
        let accounted = stats.live.objects + stats.cached.objects + stats.pending.objects;
        if stats.live.objects != 0 || accounted != stats.taken.objects {
            return Err(WrongAnswer(format!(
                "the statistics do not add up after everything was freed: {stats:?}"
            )));
        }
        match self.destroy() {
            Ok(_) => Ok(()),
            Err(leak) => Err(WrongAnswer(format!("after everything was freed: {leak}"))),
        }
    }
}

/// The allocator of the C library.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemMalloc;

impl SystemMalloc {
    /// What records call it.
    pub(super) const NAME: &'static str =
        if cfg!(all(target_os = "linux", target_env = "gnu")) { "glibc" } else { "malloc" };
}

impl Source for SystemMalloc {
    #[inline]
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.size() > 0);
        // SAFETY: the layout has a size, as `take` asks for.
        NonNull::new(unsafe { System.alloc(layout) })
    }

    #[inline]
    unsafe fn give(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is the one that `dealloc` asks for.
        unsafe { System.dealloc(place.as_ptr(), layout) }
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

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

    /// Takes objects until the hand is full, and writes a stamp into each: the first one's
    /// given, each other one more than the one before. Returns how many the hand holds.
    #[inline]
    pub(super) fn fill(&mut self, stamp: u64) -> usize {
        while self.held < N {
            let Some(place) = self.source.take(self.layout) else { break };
            // The optimiser must not find out that nobody else looks at the object.
            let place = black_box(place);
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
            let place = black_box(place);
            // SAFETY: the object is held (INV-O1), and `fill` wrote a stamp into it.
            intact += usize::from(unsafe { place.cast::<u64>().read() } == stamp);
            // SAFETY: the object came from this source with this layout (INV-O1). It is not
            // used again: `held` does not count it any more.
            unsafe { self.source.give(place, self.layout) };
        }
        intact
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
