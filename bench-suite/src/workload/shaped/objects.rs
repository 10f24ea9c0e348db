//! Slots with stamped objects, behind a safe interface: the only place of this bench that accesses
//! memory that other threads may free.
//!
//! The first word of an object is its stamp:
//!
//! | bits | |
//! |---|---|
//! | 56.. | a mark that is unlikely in other memory |
//! | 30..56 | the slot |
//! | 1..30 | a number that grows with every object of the thread |
//! | 0 | set while the object is in its slot |
//!
//! - BEN-O1: an object in a slot came from the table's heap with the layout of the slot and is not
//!   free. The thread that swaps it out, or the thread to which it is handed over, frees it once.
//! - BEN-O2: until an object is freed, and as long as the heap keeps its type for readers after
//!   that, its words are accessed only atomically.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::heap::Heap;
use crate::measure::{NoReadings, WrongAnswer};
use crate::shape::Shape;

const MARK: u64 = 0x5d << 56;
const MARK_BITS: u64 = 0xff << 56;
const SLOT_SHIFT: u32 = 30;
const LIVE: u64 = 1;
const NUMBER_BITS: u64 = (1 << 29) - 1;

/// Bytes of a cache line: one word in each is written.
const LINE: usize = 64;

fn stamp(slot: usize, number: u64) -> u64 {
    MARK | (slot as u64) << SLOT_SHIFT | (number & NUMBER_BITS) << 1 | LIVE
}

fn is_of(stamp: u64, slot: usize) -> bool {
    stamp >> SLOT_SHIFT == (MARK | (slot as u64) << SLOT_SHIFT) >> SLOT_SHIFT
}

/// An object that was taken out and is not free yet; its holder alone may free it.
#[derive(Debug)]
pub(super) struct Removed {
    place: NonNull<u8>,
    layout: Layout,
}

// SAFETY: BEN-O1: an object that was taken out is not tied to a thread.
unsafe impl Send for Removed {}

/// A heap and the slots with its live objects.
#[derive(Debug)]
pub(super) struct Table<H> {
    heap: H,
    slots: Box<[AtomicPtr<AtomicU64>]>,
    /// The different layouts, and the index of each slot's layout.
    layouts: Box<[Layout]>,
    which: Box<[u8]>,
    sleeping: bool,
}

impl<H: Heap> Table<H> {
    pub(super) fn new(shape: &Shape) -> Result<Self, NoReadings> {
        let sizes: Vec<usize> = shape.numbers.sizes.iter().map(|(size, _)| size).collect();
        let layouts: Result<Box<[Layout]>, _> =
            sizes.iter().map(|&size| Layout::from_size_align(size, 8)).collect();
        let layouts = layouts.map_err(|error| WrongAnswer(error.to_string()))?;
        let objects = shape.numbers.live_objects;
        let place = |size| sizes.iter().position(|&one| one == size).unwrap_or(0) as u8;
        Ok(Self {
            heap: H::build(shape)?,
            slots: (0..objects).map(|_| AtomicPtr::default()).collect(),
            layouts,
            which: shape.numbers.sizes.deal(objects).map(place).collect(),
            sleeping: shape.demands.sleep,
        })
    }

    /// Returns the number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn layout(&self, slot: usize) -> Layout {
        self.layouts[usize::from(self.which[slot])]
    }

    /// Allocates an object for a slot and stamps it; it is in no slot yet. `None` if the memory
    /// limit is reached.
    #[inline]
    pub(super) fn alloc(&self, slot: usize, number: u64) -> Result<Option<Removed>, WrongAnswer> {
        let layout = self.layout(slot);
        let Some(place) = self.heap.alloc(layout)? else { return Ok(None) };
        let words = place.cast::<AtomicU64>();
        // SAFETY: the heap handed out the object for a layout of at least a word, and BEN-O2.
        let first = unsafe { words.as_ref() };
        let before = first.load(Ordering::Relaxed);
        if before & (MARK_BITS | LIVE) == MARK | LIVE {
            return Err(WrongAnswer("an object was handed out while another thread had it".into()));
        }
        first.store(stamp(slot, number), Ordering::Relaxed);
        for offset in (LINE..layout.size() - 7).step_by(LINE) {
            // SAFETY: `offset` is a multiple of 8 at least a word before the end of the object.
            let word = unsafe { words.byte_add(offset).as_ref() };
            word.store(number << 1, Ordering::Relaxed);
        }
        Ok(Some(Removed { place, layout }))
    }

    /// Puts an object that was allocated for a slot into it, and returns the previous one.
    ///
    /// # Errors
    ///
    /// The previous object is not the one that was put in.
    #[inline]
    pub(super) fn swap(
        &self,
        slot: usize,
        new: Option<Removed>,
    ) -> Result<Option<Removed>, WrongAnswer> {
        let new = new.map_or(ptr::null_mut(), |object| object.place.as_ptr().cast());
        // ORDERING: Release pairs with the Acquire in `look` and in this swap by the thread that
        // closes the table: a thread that finds the object finds its stamp. Only hardware that
        // reorders stores can show the difference; no test here does.
        let old = NonNull::new(self.slots[slot].swap(new, Ordering::AcqRel));
        let Some(old) = old else { return Ok(None) };
        // SAFETY: BEN-O1: this thread holds the object now, so its memory is mapped, and BEN-O2.
        let word = unsafe { old.as_ref() };
        let found = word.load(Ordering::Relaxed);
        if !(is_of(found, slot) && found & LIVE != 0) {
            return Err(WrongAnswer("an object in a slot was in use by another thread".into()));
        }
        word.store(found & !LIVE, Ordering::Relaxed);
        Ok(Some(Removed { place: old.cast(), layout: self.layout(slot) }))
    }

    /// Frees an object.
    #[inline]
    pub(super) fn free(&self, object: Removed) {
        // SAFETY: BEN-O1: made by `swap`, of this heap and with this layout; `Removed` can't be
        // cloned. (An object from `alloc` is always swapped into its slot.)
        unsafe { self.heap.free(object.place, object.layout) };
    }

    /// Enters a section, reads the object in a slot, calls `meanwhile`, and reads the object again.
    ///
    /// # Errors
    ///
    /// The object found has no stamp, or became another one although the policy excludes that.
    #[inline]
    pub(super) fn look(&self, slot: usize, meanwhile: impl FnOnce()) -> Result<(), WrongAnswer> {
        let looks = |first: u64, second: u64| match H::protects_identity(self.sleeping) {
            true => is_of(first, slot) && first | LIVE == second | LIVE,
            false => [first, second].iter().all(|stamp| stamp & MARK_BITS == MARK),
        };
        let is_right = self.heap.section(self.sleeping, || {
            // ORDERING: Acquire pairs with the Release in `swap`.
            let Some(found) = NonNull::new(self.slots[slot].load(Ordering::Acquire)) else {
                meanwhile();
                return true;
            };
            // SAFETY: BEN-O2: found in a slot inside the section, until whose end the heap keeps
            // memory and type.
            let word = unsafe { found.as_ref() };
            // ORDERING: Acquire keeps the second read after the first. Otherwise a reader that
            // reads twice could compare a stamp with itself:
            // `an_object_reused_under_a_reader_is_detected`.
            let first = word.load(Ordering::Acquire);
            meanwhile();
            looks(first, word.load(Ordering::Acquire))
        });
        is_right.then_some(()).ok_or_else(|| {
            WrongAnswer("a reader found an object that was reused during its section".into())
        })
    }

    /// Frees the objects in slots and those handed over but not yet freed; checks that none is
    /// missing.
    pub(super) fn close(
        self,
        in_transit: Vec<Removed>,
        put: u64,
        mut removed: u64,
    ) -> Result<(), WrongAnswer> {
        in_transit.into_iter().for_each(|object| self.free(object));
        for slot in 0..self.len() {
            if let Some(object) = self.swap(slot, None)? {
                removed += 1;
                self.free(object);
            }
        }
        if put != removed {
            return Err(WrongAnswer(format!("{put} objects were put in and {removed} came out")));
        }
        self.heap.close()
    }
}
