//! Objects with a stamp, and the slots that hold them: the only place of this bench that accesses
//! memory that other threads may free.
//!
//! The first word of an object is its stamp. It says which slot the object was put into, by which
//! writer and when, and whether it is still there:
//!
//! | bits | |
//! |---|---|
//! | 56.. | a mark that is unlikely in other memory |
//! | 46..56 | the lane, which is the writer's |
//! | 40..46 | the place in the lane |
//! | 1..40 | a number that grows with every object of the lane |
//! | 0 | set while the object is live |
//!
//! - BEN-F1: an object in a slot was handed out by the bench's scheme and is not retired. Only the
//!   thread that swaps it out retires it.
//! - BEN-F2: the stamp is accessed only atomically until the object is retired, and by readers
//!   after that for as long as the scheme keeps the object, or its type, for them.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Places in a lane.
pub(super) const PLACES: usize = 64;

/// The most lanes that stamps can distinguish.
pub(super) const MOST_LANES: usize = 1 << 10;

const MARK: u64 = 0xa7 << 56;
const MARK_BITS: u64 = 0xff << 56;
const LIVE: u64 = 1;
const NUMBER_BITS: u64 = (1 << 39) - 1;

/// The content of the first word of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// Returns the stamp of a live object in a place of a lane.
    #[inline]
    pub(super) fn live(lane: usize, place: usize, number: u64) -> Self {
        let whose = (lane as u64) << 46 | (place as u64) << 40;
        Self(MARK | whose | (number & NUMBER_BITS) << 1 | LIVE)
    }

    /// Returns whether it is a valid stamp, and of an object that is in its place.
    #[inline]
    pub(super) fn is_live(self) -> bool {
        self.0 & (MARK_BITS | LIVE) == MARK | LIVE
    }

    /// Returns whether it is a valid stamp.
    #[inline]
    pub(super) fn is_stamp(self) -> bool {
        self.0 & MARK_BITS == MARK
    }

    /// Returns whether the object is, or was last, in this place of this lane.
    #[inline]
    pub(super) fn is_of(self, lane: usize, place: usize) -> bool {
        let whose = MARK | (lane as u64) << 46 | (place as u64) << 40;
        self.0 >> 40 == whose >> 40
    }

    /// Returns whether both are of one object in one life, live or taken out.
    #[inline]
    pub(super) fn same_life(self, other: Self) -> bool {
        self.0 | LIVE == other.0 | LIVE
    }
}

/// An object that this thread holds exclusively: new from a scheme, or just swapped out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object(NonNull<AtomicU64>);

impl Object {
    /// Wraps an object that a scheme has handed out.
    ///
    /// # Safety
    ///
    /// `place` is at least 8 bytes, aligned to 8, of initialised or freshly allocated memory that
    /// the caller holds exclusively until it gives the object away.
    #[inline]
    pub(super) unsafe fn given_out(place: NonNull<u8>) -> Self {
        Self(place.cast())
    }

    /// Returns the address.
    #[inline]
    pub(super) fn place(&self) -> NonNull<u8> {
        self.0.cast()
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: BEN-F2: this thread holds the object, so its memory is mapped, and no thread
        // accesses the word other than atomically.
        unsafe { self.0.as_ref() }
    }

    /// Returns the stamp.
    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        Stamp(self.word().load(Ordering::Relaxed))
    }

    /// Writes a stamp.
    #[inline]
    pub(super) fn set_stamp(&self, stamp: Stamp) {
        self.word().store(stamp.0, Ordering::Relaxed);
    }

    /// Marks the object as taken out of its place. Returns the stamp before.
    #[inline]
    pub(super) fn take_out(&self) -> Stamp {
        let stamp = self.stamp();
        self.word().store(stamp.0 & !LIVE, Ordering::Relaxed);
        stamp
    }
}

/// An object found by a reader: other threads may take it out at any moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'r>(&'r AtomicU64);

impl<'r> Found<'r> {
    /// Wraps the object at `place`.
    ///
    /// # Safety
    ///
    /// `place` was loaded from a slot, and the scheme keeps its memory mapped and its first word a
    /// stamp for `'r` (BEN-F2).
    #[inline]
    pub(super) unsafe fn new(place: NonNull<AtomicU64>) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { place.as_ref() })
    }

    /// Returns the current stamp.
    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        // ORDERING: Acquire keeps a second read after the first one. Otherwise a reader that reads
        // twice could compare a stamp with itself: `an_object_reused_under_a_reader_is_detected`.
        Stamp(self.0.load(Ordering::Acquire))
    }
}

/// A slot: the address of an object, or null.
#[derive(Debug, Default)]
pub(super) struct Slot(AtomicPtr<AtomicU64>);

impl Slot {
    /// Returns the pointer itself, for rivals that protect the object in their own way.
    #[cfg(feature = "rivals")]
    #[inline]
    pub(super) fn pointer(&self) -> &AtomicPtr<AtomicU64> {
        &self.0
    }

    /// Returns the address of the object in the slot.
    #[inline]
    pub(super) fn find(&self) -> Option<NonNull<AtomicU64>> {
        // ORDERING: Acquire pairs with the Release in `swap`: the stamp is seen. Only hardware that
        // reorders such loads can show the difference; no test here does.
        NonNull::new(self.0.load(Ordering::Acquire))
    }

    /// Returns whether the slot has an object, without access to the object.
    #[inline]
    pub(super) fn is_taken(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }

    /// Puts an object, or none, into the slot, and returns the previous one.
    #[inline]
    pub(super) fn swap(&self, object: Option<Object>) -> Option<Object> {
        let new = object.map_or(ptr::null_mut(), |object| object.0.as_ptr());
        // ORDERING: Release pairs with the Acquires of `find` and of this swap in other threads: a
        // thread that gets the object gets its stamp. Only hardware that reorders stores can show
        // the difference; no test here does.
        NonNull::new(self.0.swap(new, Ordering::AcqRel)).map(Object)
    }
}

/// The slots of one writer, on separate cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Lane([Slot; PLACES]);

impl Lane {
    /// Creates empty slots.
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Slot::default()))
    }

    /// Returns the slot at a place, modulo [`PLACES`].
    #[inline]
    pub(super) fn slot(&self, place: usize) -> &Slot {
        &self.0[place % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_distinguishes_lanes_places_numbers_and_lives() {
        let stamp = Stamp::live(1023, 63, 7);
        assert!(stamp.is_live() && stamp.is_stamp() && stamp.is_of(1023, 63));
        assert!(!stamp.is_of(1022, 63) && !stamp.is_of(1023, 62));
        assert!(!stamp.same_life(Stamp::live(1023, 63, 8)));
        assert!(!Stamp(0).is_stamp() && !Stamp(0).is_live() && !Stamp(0).is_of(0, 0));
        assert!(Stamp::live(0, 0, u64::MAX).is_of(0, 0));
    }

    #[test]
    fn an_object_that_was_taken_out_is_of_the_same_life_and_no_longer_live() {
        let word = AtomicU64::new(0);
        // SAFETY: the word is this test's, and outlives the object.
        let object = unsafe { Object::given_out(NonNull::from(&word).cast()) };
        object.set_stamp(Stamp::live(3, 4, 5));
        let before = object.take_out();
        assert!(before.is_live() && !object.stamp().is_live());
        assert!(object.stamp().same_life(before) && object.stamp().is_of(3, 4));
    }

    #[test]
    fn a_slot_returns_each_object_once() {
        let word = AtomicU64::new(0);
        let lane = Lane::new();
        let slot = lane.slot(PLACES + 3);
        // SAFETY: as above.
        let object = unsafe { Object::given_out(NonNull::from(&word).cast()) };
        assert!(slot.swap(Some(object)).is_none() && slot.is_taken());
        assert_eq!(lane.slot(3).find(), Some(NonNull::from(&word)));
        assert_eq!(slot.swap(None).map(|object| object.place()), Some(NonNull::from(&word).cast()));
        assert!(slot.swap(None).is_none() && !slot.is_taken());
    }
}
