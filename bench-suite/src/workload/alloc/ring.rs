//! Raw objects on their way from the thread that allocates to the thread that frees, behind a safe
//! interface: a ring with room for [`ROOM`] objects, and one end for each thread.
//!
//! Each end keeps a private count and publishes it once per [`SHOWN_EVERY`] objects, and before it
//! waits: passing an object on must be cheap compared with allocating it.
//!
//! - BEN-B1: the places from `taken` up to `put` are objects that the allocator handed out for the
//!   ring's layout, each with its number as a stamp, and that only the ring holds. Only the
//!   producing end writes `put` and the places beyond, only the consuming end writes `taken`.
//! - BEN-B2: an end publishes a count only after it has done what the count says.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::hint::spin_loop;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use super::allocator::Allocator;
use super::opaque::opaque;
use crate::measure::Gate;

/// The capacity of the ring, in objects.
pub(super) const ROOM: u64 = 1024;

/// The number of objects after which an end publishes its count and checks the time.
const SHOWN_EVERY: u64 = 32;

/// The ring.
#[derive(Debug)]
pub(super) struct Ring<'s, S: Allocator> {
    allocator: &'s S,
    layout: Layout,
    places: Box<[AtomicPtr<u8>]>,
    put: CachePadded<AtomicU64>,
    taken: CachePadded<AtomicU64>,
    /// True if the allocator failed, so that no more objects come.
    dry: AtomicBool,
}

impl<'s, S: Allocator> Ring<'s, S> {
    /// Creates an empty ring, for objects of a layout that a stamp fits in.
    pub(super) fn new(allocator: &'s S, layout: Layout) -> Self {
        assert!(layout.size() >= size_of::<u64>() && layout.align() >= align_of::<u64>());
        Self {
            allocator,
            layout,
            places: (0..ROOM).map(|_| AtomicPtr::new(null_mut())).collect(),
            put: CachePadded::default(),
            taken: CachePadded::default(),
            dry: AtomicBool::new(false),
        }
    }

    /// Returns the two ends.
    pub(super) fn ends<'b>(&'b mut self) -> (Producer<'b, 's, S>, Consumer<'b, 's, S>) {
        let (put, taken) = (*self.put.get_mut(), *self.taken.get_mut());
        let ring = &*self;
        (Producer { ring, put, taken }, Consumer { ring, put, taken })
    }

    fn place(&self, number: u64) -> &AtomicPtr<u8> {
        &self.places[(number % ROOM) as usize]
    }

    /// Frees the object in a place. Returns whether it still had its stamp.
    ///
    /// # Safety
    ///
    /// The place of `number` has an object (BEN-B1), and is not used again until another object is
    /// put there.
    unsafe fn give_back(&self, number: u64) -> bool {
        let object = self.place(number).load(Ordering::Relaxed);
        let Some(object) = NonNull::new(object).map(opaque) else { return false };
        // SAFETY: only the ring holds the object, which has its stamp (BEN-B1).
        let intact = unsafe { object.cast::<u64>().read() } == number;
        // SAFETY: it came from this allocator with this layout (BEN-B1), and the caller forgets it.
        unsafe { self.allocator.free(object, self.layout) };
        intact
    }
}

impl<S: Allocator> Drop for Ring<'_, S> {
    /// Frees the remaining objects.
    fn drop(&mut self) {
        self.allocator.enter();
        for number in *self.taken.get_mut()..*self.put.get_mut() {
            // SAFETY: the ends are gone, and between the two counts there are objects (BEN-B1).
            unsafe { self.give_back(number) };
        }
    }
}

/// The end of the thread that allocates.
#[derive(Debug)]
pub(super) struct Producer<'b, 's, S: Allocator> {
    ring: &'b Ring<'s, S>,
    put: u64,
    /// The last value seen.
    taken: u64,
}

impl<S: Allocator> Producer<'_, '_, S> {
    /// Allocates objects and puts them on the ring until the gate is closed, waiting for room.
    /// Returns whether every allocation succeeded.
    pub(super) fn produce(&mut self, gate: &Gate) -> bool {
        let (allocator, layout) = (self.ring.allocator, self.ring.layout);
        loop {
            let room = ROOM - (self.put - self.taken);
            if room == 0 {
                if !self.wait_for_room(gate) {
                    return true;
                }
                continue;
            }
            let begun = self.put;
            for number in begun..begun + room.min(SHOWN_EVERY) {
                let Some(object) = allocator.alloc(layout) else {
                    self.show();
                    self.ring.dry.store(true, Ordering::Relaxed);
                    return false;
                };
                let object = opaque(object);
                // SAFETY: the object was just handed out for a layout that a stamp fits in, and is
                // exclusively held.
                unsafe { object.cast::<u64>().write(number) };
                self.ring.place(number).store(object.as_ptr(), Ordering::Relaxed);
                self.put = number + 1;
            }
            self.show();
            if !gate.is_open() {
                return true;
            }
        }
    }

    fn show(&self) {
        // ORDERING: Release pairs with the Acquire of `Consumer::wait_for_objects`: the stamps and
        // the places are written before the count says so (BEN-B2). Without it
        // `objects_leave_the_ring_once_and_in_order` reads stale places on a weakly ordered CPU.
        self.ring.put.store(self.put, Ordering::Release);
    }

    fn wait_for_room(&mut self, gate: &Gate) -> bool {
        self.show();
        wait_until(
            || gate.is_open(),
            || {
                // ORDERING: Acquire pairs with the Release of `Consumer::show`: a place is written
                // again only after it was read.
                self.taken = self.ring.taken.load(Ordering::Acquire);
                self.put - self.taken < ROOM
            },
        )
    }
}

/// The end of the thread that frees.
#[derive(Debug)]
pub(super) struct Consumer<'b, 's, S: Allocator> {
    ring: &'b Ring<'s, S>,
    taken: u64,
    /// The last value seen.
    put: u64,
}

impl<S: Allocator> Consumer<'_, '_, S> {
    /// Takes objects off the ring and frees them until the gate is closed, at least one if any
    /// comes. Returns their number, and how many still had the stamp of their turn.
    pub(super) fn consume(&mut self, gate: &Gate) -> (u64, u64) {
        let (begun, mut intact) = (self.taken, 0);
        loop {
            let present = self.put - self.taken;
            if present == 0 {
                if !self.wait_for_objects(gate, begun) {
                    return (self.taken - begun, intact);
                }
                continue;
            }
            for _ in 0..present.min(SHOWN_EVERY) {
                // SAFETY: the count of the other end was seen to be larger (BEN-B1), and this end's
                // count moves on.
                intact += u64::from(unsafe { self.ring.give_back(self.taken) });
                self.taken += 1;
            }
            self.show();
            if !gate.is_open() {
                return (self.taken - begun, intact);
            }
        }
    }

    fn show(&self) {
        // ORDERING: Release pairs with the Acquire of `Producer::wait_for_room`: the place has been
        // read before the count says that there is room (BEN-B2).
        self.ring.taken.store(self.taken, Ordering::Release);
    }

    fn wait_for_objects(&mut self, gate: &Gate, begun: u64) -> bool {
        self.show();
        // The other end puts at least one object on the ring before it checks the gate.
        let goes_on = || gate.is_open() || self.taken == begun;
        wait_until(
            || goes_on() && !self.ring.dry.load(Ordering::Relaxed),
            || {
                // ORDERING: Acquire pairs with the Release of `Producer::show`.
                self.put = self.ring.put.load(Ordering::Acquire);
                self.taken < self.put
            },
        )
    }
}

/// Waits while `goes_on` holds. Returns whether `comes_true` became true.
fn wait_until(goes_on: impl Fn() -> bool, mut comes_true: impl FnMut() -> bool) -> bool {
    /// Checks before the CPU is yielded to other threads, such as the other end.
    const PATIENCE: u32 = 64;
    let mut looks = 0;
    while !comes_true() {
        if !goes_on() {
            return false;
        }
        looks += 1;
        if looks % PATIENCE == 0 { thread::yield_now() } else { spin_loop() }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::allocator::SystemMalloc;
    use super::*;

    fn layout() -> Layout {
        Layout::new::<[u64; 8]>()
    }

    #[test]
    fn objects_leave_the_ring_once_and_in_order() {
        let mut ring = Ring::new(&SystemMalloc, layout());
        let gate = Gate::default();
        for _ in 0..2 {
            let (mut producer, mut consumer) = ring.ends();
            let (served, (count, intact)) = thread::scope(|scope| {
                let producing = scope.spawn(|| producer.produce(&gate));
                let consuming = scope.spawn(|| consumer.consume(&gate));
                thread::sleep(std::time::Duration::from_millis(5));
                gate.close();
                (producing.join().unwrap(), consuming.join().unwrap())
            });
            assert!(served && count > 0);
            assert_eq!(count, intact);
        }
    }

    #[test]
    fn a_failed_allocation_ends_the_wait() {
        let mut ring = Ring::new(&Empty, layout());
        let gate = Gate::default();
        let (mut producer, mut consumer) = ring.ends();
        assert!(!producer.produce(&gate));
        assert_eq!(consumer.consume(&gate), (0, 0));
    }

    #[test]
    fn an_object_that_was_handed_out_twice_is_detected() {
        let mut object = [0_u64; 8];
        let allocator = Careless(AtomicPtr::new((&raw mut object).cast()));
        let mut ring = Ring::new(&allocator, layout());
        let gate = Gate::default();
        gate.close();
        let (mut producer, mut consumer) = ring.ends();
        assert!(producer.produce(&gate));
        assert_eq!(consumer.consume(&gate), (SHOWN_EVERY, 1), "only the last stamp is there");
    }

    /// Hands out the same object again and again.
    struct Careless(AtomicPtr<u8>);

    impl Allocator for Careless {
        fn alloc(&self, _layout: Layout) -> Option<NonNull<u8>> {
            NonNull::new(self.0.load(Ordering::Relaxed))
        }

        unsafe fn free(&self, _place: NonNull<u8>, _layout: Layout) {}

        fn held_bytes(&self) -> Option<u64> {
            None
        }

        fn close(self) -> Result<(), crate::measure::WrongAnswer> {
            Ok(())
        }
    }

    /// Fails every allocation.
    struct Empty;

    impl Allocator for Empty {
        fn alloc(&self, _layout: Layout) -> Option<NonNull<u8>> {
            None
        }

        unsafe fn free(&self, _place: NonNull<u8>, _layout: Layout) {
            unreachable!("nothing was given out");
        }

        fn held_bytes(&self) -> Option<u64> {
            None
        }

        fn close(self) -> Result<(), crate::measure::WrongAnswer> {
            Ok(())
        }
    }
}
