//! One callback per object instead of batches, which shows the benefit of batching.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;

use memalloc::rcu::{Domain, LocalReader};
use memalloc::{Immediate, MemAlloc};

use super::object::{Found, Object, Slot};
use super::scheme::{Scheme, Session};
use crate::measure::{CutOff, NoReadings, WrongAnswer};

/// `memalloc` with one RCU callback per object, which frees it.
#[derive(Debug)]
pub(super) struct Callbacks {
    alloc: Arc<MemAlloc<Immediate>>,
    layout: Layout,
}

/// See [`Callbacks`].
#[derive(Debug)]
pub(super) struct CallbackSession<'s> {
    alloc: &'s Arc<MemAlloc<Immediate>>,
    layout: Layout,
    /// Set in the first section.
    reader: Option<LocalReader<'s>>,
}

/// An object on its way to its callback, exclusively held by it.
struct Retired(NonNull<u8>);

// SAFETY: the object was taken out by the thread that retired it, and is not tied to a thread
// (BEN-F1).
unsafe impl Send for Retired {}

impl Retired {
    /// Returns the object. (A closure that named the field would capture a bare pointer.)
    fn place(self) -> NonNull<u8> {
        self.0
    }
}

impl Scheme for Callbacks {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = true;

    type Session<'s> = CallbackSession<'s>;

    fn build(layout: Layout) -> Result<Self, NoReadings> {
        let alloc = MemAlloc::builder()
            .domain(Domain::new())
            .build()
            .map_err(|error| CutOff::refused("building an allocator", error))?;
        Ok(Self { alloc: Arc::new(alloc), layout })
    }

    fn session(&self) -> CallbackSession<'_> {
        CallbackSession { alloc: &self.alloc, layout: self.layout, reader: None }
    }

    fn close(self, _retired: u64) -> Result<(), WrongAnswer> {
        let domain = self.alloc.domain().clone();
        domain
            .rcu()
            .barrier()
            .map_err(|error| WrongAnswer(format!("waiting for callbacks failed: {error}")))?;
        let alloc = Arc::into_inner(self.alloc)
            .ok_or_else(|| WrongAnswer("a callback has not run after a barrier".into()))?;
        match alloc.destroy() {
            Ok(_) => Ok(()),
            Err(leak) => Err(WrongAnswer(format!("after everything was freed: {leak}"))),
        }
    }
}

impl Session for CallbackSession<'_> {
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        let place = self.alloc.alloc(self.layout).ok()?.cast();
        // SAFETY: the allocator handed out the object for a layout that a stamp fits in; its memory
        // is zero at first, and later holds what its last owner left there.
        Some(unsafe { Object::given_out(place) })
    }

    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        let (alloc, layout, object) =
            (Arc::clone(self.alloc), self.layout, Retired(object.place()));
        self.alloc.domain().rcu().call(move || {
            // SAFETY: BEN-F1, by the caller's promise, and no reader can still read it.
            unsafe { alloc.free(object.place(), layout) };
        });
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let alloc = self.alloc;
        let _section = self.reader.get_or_insert_with(|| alloc.domain().local()).pin();
        // SAFETY: BEN-F2: loaded from a slot inside the section, for whose end the callback waits.
        look(slot.find().map(|place| unsafe { Found::new(place) }));
    }
}
