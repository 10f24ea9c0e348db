//! Objects held by one side: a thread, or the handler that interrupts it.
//!
//! The first word of an object is the number of its owner, 0 if it is free. A free object keeps its
//! bytes and new memory is zero, so an allocated object has a 0, unless another side holds it, too.
//!
//! - BEN-S1: the places have objects that the heap handed out for their layout; only one side uses
//!   a `HeldObjects`, and only the other side interrupts it.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::heap::{Heap, Way};

/// Small and large objects, of classes with deep and with shallow caches.
pub(super) const LAYOUTS: [Layout; 4] = [
    Layout::new::<[u64; 2]>(),
    Layout::new::<[u64; 8]>(),
    Layout::new::<[u64; 32]>(),
    Layout::new::<[u64; 512]>(),
];

#[derive(Clone, Copy, Debug)]
struct Held {
    place: NonNull<u8>,
    layout: Layout,
}

/// Up to `N` objects.
#[derive(Debug)]
pub(super) struct HeldObjects<const N: usize> {
    owner: u64,
    places: [Option<Held>; N],
    rng: fastrand::Rng,
    /// Objects that another side held, too.
    pub(super) duplicated: u64,
    /// Allocations, and those of them that failed.
    pub(super) asked: u64,
    pub(super) refused: u64,
}

// SAFETY: the objects are exclusively held, and are not tied to a thread.
unsafe impl<const N: usize> Send for HeldObjects<N> {}

impl<const N: usize> HeldObjects<N> {
    /// Creates an empty holder; `owner` is unique among holders, and not 0.
    pub(super) fn new(owner: u64) -> Self {
        let rng = fastrand::Rng::with_seed(owner);
        Self { owner, places: [None; N], rng, duplicated: 0, asked: 0, refused: 0 }
    }

    /// Frees the object in a random place, in a random way, and puts a new one of a random size
    /// there.
    #[inline]
    pub(super) fn turn_over<H: Heap>(
        &mut self,
        heap: &H,
        alloc: impl FnOnce(&H, Layout) -> Option<NonNull<u8>>,
    ) {
        let dice = self.rng.u32(..) as usize;
        let layout = LAYOUTS[dice % LAYOUTS.len()];
        let place = (dice >> 8) % N;
        self.give_back(heap, place, Way::number(dice >> 24));
        self.asked += 1;
        match alloc(heap, layout) {
            Some(object) => self.keep(Held { place: object, layout }, place),
            None => self.refused += 1,
        }
    }

    /// Frees everything.
    pub(super) fn empty<H: Heap>(&mut self, heap: &H) {
        for place in 0..N {
            self.give_back(heap, place, Way::Plain);
        }
    }

    #[inline]
    fn keep(&mut self, object: Held, place: usize) {
        if word(&object).swap(self.owner, Ordering::Relaxed) == 0 {
            self.places[place] = Some(object);
        } else {
            // The other holder frees it.
            self.duplicated += 1;
        }
    }

    #[inline]
    fn give_back<H: Heap>(&mut self, heap: &H, place: usize, way: Way) {
        let Some(object) = self.places[place].take() else { return };
        if word(&object).swap(0, Ordering::Relaxed) == self.owner {
            // SAFETY: BEN-S1: it came from the heap with this layout, and is in no place any more.
            unsafe { heap.free(object.place, object.layout, way) };
        } else {
            self.duplicated += 1;
        }
    }
}

#[inline]
fn word(object: &Held) -> &AtomicU64 {
    // SAFETY: BEN-S1: the object is at least a word, aligned to it, and mapped while the heap
    // lives; the word is only ever accessed in this way.
    unsafe { object.place.cast().as_ref() }
}
