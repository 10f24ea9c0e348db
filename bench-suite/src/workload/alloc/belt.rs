//! Raw objects on their way from the thread that allocates to the one that frees, behind a safe
//! face: a ring with room for [`ROOM`] objects, one end for each of the two threads.
//!
//! Each end works on its own count and shows it to the other end once in [`SHOWN_EVERY`] objects,
//! and before it waits: passing an object on must cost little beside allocating it.
//!
//! - INV-B1: the places from `taken` up to `put` are objects that the source gave out for the
//!   belt's layout, each with its own number as a stamp, and that nobody else knows of. Only the
//!   loading end writes `put` and the places beyond, only the unloading end writes `taken`.
//! - INV-B2: an end shows a count only after it has done what the count says.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::hint::{black_box, spin_loop};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use super::source::Source;
use crate::measure::Gate;

/// How many objects there is room for.
pub(super) const ROOM: u64 = 1024;

/// After how many objects an end shows its count, and looks whether there is time left.
const SHOWN_EVERY: u64 = 32;

/// The belt.
#[derive(Debug)]
pub(super) struct Belt<'s, S: Source> {
    source: &'s S,
    layout: Layout,
    places: Box<[AtomicPtr<u8>]>,
    put: CachePadded<AtomicU64>,
    taken: CachePadded<AtomicU64>,
    /// The source served no more, so that nothing more comes.
    dry: AtomicBool,
}

impl<'s, S: Source> Belt<'s, S> {
    /// An empty belt, for objects of a layout that a stamp fits in.
    pub(super) fn new(source: &'s S, layout: Layout) -> Self {
        assert!(layout.size() >= size_of::<u64>() && layout.align() >= align_of::<u64>());
        Self {
            source,
            layout,
            places: (0..ROOM).map(|_| AtomicPtr::new(null_mut())).collect(),
            put: CachePadded::default(),
            taken: CachePadded::default(),
            dry: AtomicBool::new(false),
        }
    }

    /// Its two ends.
    pub(super) fn ends<'b>(&'b mut self) -> (Loader<'b, 's, S>, Unloader<'b, 's, S>) {
        let (put, taken) = (*self.put.get_mut(), *self.taken.get_mut());
        let belt = &*self;
        (Loader { belt, put, taken }, Unloader { belt, put, taken })
    }

    fn place(&self, number: u64) -> &AtomicPtr<u8> {
        &self.places[(number % ROOM) as usize]
    }

    /// Takes the object from a place and gives it back. Says whether it still had its stamp.
    ///
    /// # Safety
    ///
    /// The place of `number` has an object (INV-B1), and is not used again until another is put
    /// there.
    unsafe fn give_back(&self, number: u64) -> bool {
        let object = self.place(number).load(Ordering::Relaxed);
        let Some(object) = NonNull::new(black_box(object)) else { return false };
        // SAFETY: an object on the belt is nobody else's and has its stamp (INV-B1).
        let intact = unsafe { object.cast::<u64>().read() } == number;
        // SAFETY: it came from this source with this layout (INV-B1), and the caller forgets it.
        unsafe { self.source.give(object, self.layout) };
        intact
    }
}

impl<S: Source> Drop for Belt<'_, S> {
    /// Gives back what was not unloaded.
    fn drop(&mut self) {
        self.source.enter();
        for number in *self.taken.get_mut()..*self.put.get_mut() {
            // SAFETY: the ends are gone, and between the two counts there are objects (INV-B1).
            unsafe { self.give_back(number) };
        }
    }
}

/// The end of the thread that allocates.
#[derive(Debug)]
pub(super) struct Loader<'b, 's, S: Source> {
    belt: &'b Belt<'s, S>,
    put: u64,
    /// As last seen.
    taken: u64,
}

impl<S: Source> Loader<'_, '_, S> {
    /// Allocates and puts on until the gate is closed, and while there is room. Says whether the
    /// source served all that was asked for.
    pub(super) fn load(&mut self, gate: &Gate) -> bool {
        self.belt.source.enter();
        loop {
            for _ in 0..SHOWN_EVERY {
                if self.put - self.taken == ROOM && !self.wait_for_room(gate) {
                    return true;
                }
                let Some(object) = self.belt.source.take(self.belt.layout) else {
                    self.show();
                    self.belt.dry.store(true, Ordering::Relaxed);
                    return false;
                };
                let object = black_box(object);
                // SAFETY: the object was just given out for a layout that a stamp fits in, and
                // is nobody else's.
                unsafe { object.cast::<u64>().write(self.put) };
                self.belt.place(self.put).store(object.as_ptr(), Ordering::Relaxed);
                self.put += 1;
            }
            self.show();
            if !gate.is_open() {
                return true;
            }
        }
    }

    fn show(&self) {
        // ORDERING: Release pairs with the Acquire of `Unloader::wait_for_objects`: the stamps
        // and the places are written before the count says so (INV-B2). Without it
        // `what_goes_on_comes_off_once_and_in_order` reads stale places on a weakly ordered CPU.
        self.belt.put.store(self.put, Ordering::Release);
    }

    fn wait_for_room(&mut self, gate: &Gate) -> bool {
        self.show();
        wait_until(
            || gate.is_open(),
            || {
                // ORDERING: Acquire pairs with the Release of `Unloader::show`: a place is written
                // again only after it was read.
                self.taken = self.belt.taken.load(Ordering::Acquire);
                self.put - self.taken < ROOM
            },
        )
    }
}

/// The end of the thread that frees.
#[derive(Debug)]
pub(super) struct Unloader<'b, 's, S: Source> {
    belt: &'b Belt<'s, S>,
    taken: u64,
    /// As last seen.
    put: u64,
}

impl<S: Source> Unloader<'_, '_, S> {
    /// Takes off and frees until the gate is closed, at least one if any comes. Returns how many,
    /// and how many of them still had the stamp of their turn.
    pub(super) fn unload(&mut self, gate: &Gate) -> (u64, u64) {
        self.belt.source.enter();
        let (begun, mut intact) = (self.taken, 0);
        loop {
            for _ in 0..SHOWN_EVERY {
                if self.taken == self.put && !self.wait_for_objects(gate, begun) {
                    return (self.taken - begun, intact);
                }
                // SAFETY: the count of the other end was seen to be larger (INV-B1), and this
                // end's moves on.
                intact += u64::from(unsafe { self.belt.give_back(self.taken) });
                self.taken += 1;
            }
            self.show();
            if !gate.is_open() {
                return (self.taken - begun, intact);
            }
        }
    }

    fn show(&self) {
        // ORDERING: Release pairs with the Acquire of `Loader::wait_for_room`: what was on the
        // place has been read before the count says that there is room (INV-B2).
        self.belt.taken.store(self.taken, Ordering::Release);
    }

    fn wait_for_objects(&mut self, gate: &Gate, begun: u64) -> bool {
        self.show();
        // The other end puts at least one there before it looks at the gate.
        let goes_on = || gate.is_open() || self.taken == begun;
        wait_until(
            || goes_on() && !self.belt.dry.load(Ordering::Relaxed),
            || {
                // ORDERING: Acquire pairs with the Release of `Loader::show`.
                self.put = self.belt.put.load(Ordering::Acquire);
                self.taken < self.put
            },
        )
    }
}

/// Waits for as long as it `goes_on`. Says whether it came true.
fn wait_until(goes_on: impl Fn() -> bool, mut comes_true: impl FnMut() -> bool) -> bool {
    /// Looks before the CPU is offered to somebody else, who may be the other end.
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
    use super::super::source::SystemMalloc;
    use super::*;

    fn layout() -> Layout {
        Layout::new::<[u64; 8]>()
    }

    #[test]
    fn what_goes_on_comes_off_once_and_in_order() {
        let mut belt = Belt::new(&SystemMalloc, layout());
        let gate = Gate::default();
        for _ in 0..2 {
            let (mut loader, mut unloader) = belt.ends();
            let (served, (count, intact)) = thread::scope(|scope| {
                let loading = scope.spawn(|| loader.load(&gate));
                let unloading = scope.spawn(|| unloader.unload(&gate));
                thread::sleep(std::time::Duration::from_millis(5));
                gate.close();
                (loading.join().unwrap(), unloading.join().unwrap())
            });
            assert!(served && count > 0);
            assert_eq!(count, intact);
        }
    }

    #[test]
    fn a_source_that_has_no_more_ends_the_wait() {
        let mut belt = Belt::new(&Empty, layout());
        let gate = Gate::default();
        let (mut loader, mut unloader) = belt.ends();
        assert!(!loader.load(&gate));
        assert_eq!(unloader.unload(&gate), (0, 0));
    }

    #[test]
    fn an_object_that_was_handed_out_twice_is_noticed() {
        let mut object = [0_u64; 8];
        let source = Careless(AtomicPtr::new((&raw mut object).cast()));
        let mut belt = Belt::new(&source, layout());
        let gate = Gate::default();
        gate.close();
        let (mut loader, mut unloader) = belt.ends();
        assert!(loader.load(&gate));
        assert_eq!(unloader.unload(&gate), (SHOWN_EVERY, 1), "only the last stamp is there");
    }

    /// Gives out the same object again and again.
    struct Careless(AtomicPtr<u8>);

    impl Source for Careless {
        fn take(&self, _layout: Layout) -> Option<NonNull<u8>> {
            NonNull::new(self.0.load(Ordering::Relaxed))
        }

        unsafe fn give(&self, _place: NonNull<u8>, _layout: Layout) {}

        fn held_bytes(&self) -> Option<u64> {
            None
        }

        fn close(self) -> Result<(), crate::measure::WrongAnswer> {
            Ok(())
        }
    }

    /// Has nothing to give.
    struct Empty;

    impl Source for Empty {
        fn take(&self, _layout: Layout) -> Option<NonNull<u8>> {
            None
        }

        unsafe fn give(&self, _place: NonNull<u8>, _layout: Layout) {
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
