//! The interface of the subjects: schemes that hand out objects, and keep retired ones until no
//! reader can read them any more.
#![allow(unsafe_code)]

use std::alloc::Layout;

use memalloc::rcu::{Domain, LocalReader};
use memalloc::{MemAlloc, PolicyKind, ReusePolicy};

use super::object::{Found, Object, Slot};
use crate::measure::{CutOff, NoReadings, WrongAnswer};

/// An allocator with a way to wait for readers.
pub(super) trait Scheme: Sync + Sized {
    /// True if a found object stays the same object until the end of the read section.
    const PROTECTS_IDENTITY: bool;

    /// True if a free object keeps its bytes, so that its stamp reveals an object that is handed
    /// out while in use.
    const KEEPS_BYTES: bool;

    /// The per-thread handle.
    type Session<'s>: Session
    where
        Self: 's;

    /// Builds a scheme for objects of one layout, of at least 8 bytes aligned to 8.
    fn build(layout: Layout) -> Result<Self, NoReadings>;

    /// Returns a handle for the calling thread, which keeps it.
    fn session(&self) -> Self::Session<'_>;

    /// Destroys the scheme, after `retired` objects were retired and none is in use, and checks
    /// that nothing was lost.
    fn close(self, retired: u64) -> Result<(), WrongAnswer>;
}

/// The per-thread handle of a scheme.
pub(super) trait Session {
    /// Allocates an object; `None` if memory is exhausted.
    fn alloc(&mut self) -> Option<Object>;

    /// Retires an object. Its memory may be reused once the scheme allows it.
    ///
    /// # Safety
    ///
    /// The object came from this scheme, and is in no slot any more (BEN-F1).
    unsafe fn retire(&mut self, object: Object);

    /// Enters a read section, finds the object in a slot, and calls `look` with it inside the
    /// section.
    ///
    /// # Safety
    ///
    /// The slot only ever holds objects of this scheme, which are retired as BEN-F1 says.
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>));

    /// As [`read`](Self::read), in a section that may sleep; finds nothing if the scheme does not
    /// wait for such sections. A scheme with one kind of section waits for all.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read).
    unsafe fn read_asleep(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        // SAFETY: the caller promises the same.
        unsafe { self.read(slot, look) };
    }
}

/// `memalloc` under one policy.
#[derive(Debug)]
pub(super) struct Memalloc<P: ReusePolicy> {
    alloc: MemAlloc<P>,
    layout: Layout,
}

/// See [`Memalloc`].
#[derive(Debug)]
pub(super) struct MemallocSession<'s, P: ReusePolicy> {
    alloc: &'s MemAlloc<P>,
    layout: Layout,
    /// Set in the first section.
    reader: Option<LocalReader<'s>>,
}

impl<P: ReusePolicy> Scheme for Memalloc<P> {
    const PROTECTS_IDENTITY: bool = P::PROTECTS_IDENTITY;
    const KEEPS_BYTES: bool = true;

    type Session<'s> = MemallocSession<'s, P>;

    /// Builds it on a separate domain: readers of other domains do not delay its objects.
    fn build(layout: Layout) -> Result<Self, NoReadings> {
        let alloc = MemAlloc::builder()
            .domain(Domain::new())
            .build()
            .map_err(|error| CutOff::refused("building an allocator", error))?;
        Ok(Self { alloc, layout })
    }

    fn session(&self) -> MemallocSession<'_, P> {
        MemallocSession { alloc: &self.alloc, layout: self.layout, reader: None }
    }

    fn close(self, _retired: u64) -> Result<(), WrongAnswer> {
        self.alloc
            .quiesce()
            .map_err(|error| WrongAnswer(format!("waiting for a grace period failed: {error}")))?;
        let stats = self.alloc.stats();
        let accounted = stats.live.objects + stats.cached.objects + stats.pending.objects;
        if accounted != stats.taken.objects || stats.pending.objects != 0 {
            return Err(WrongAnswer(format!("the statistics do not add up: {stats:?}")));
        }
        match self.alloc.destroy() {
            Ok(_) => Ok(()),
            Err(leak) => Err(WrongAnswer(format!("after everything was freed: {leak}"))),
        }
    }
}

impl<P: ReusePolicy> Session for MemallocSession<'_, P> {
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        let place = self.alloc.alloc(self.layout).ok()?.cast();
        // SAFETY: the allocator handed out the object for a layout that a stamp fits in; its memory
        // is zero at first, and later holds what its last owner left there.
        Some(unsafe { Object::given_out(place) })
    }

    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        // SAFETY: BEN-F1, by the caller's promise: this thread took the object out, so no reader
        // can find it any more, and no other thread frees it. Under a policy that does not protect
        // identity, readers rely only on there being a stamp.
        unsafe { self.alloc.free(object.place(), self.layout) };
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let alloc = self.alloc;
        let _section = self.reader.get_or_insert_with(|| alloc.domain().local()).pin();
        // SAFETY: BEN-F2: loaded from a slot inside the section. Every policy keeps memory and type
        // until it ends, and objects of the class are stamped before they are put into a slot.
        look(slot.find().map(|place| unsafe { Found::new(place) }));
    }

    unsafe fn read_asleep(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let _section = self.alloc.domain().pin_trace();
        let waits = P::KIND == PolicyKind::AfterTasksTraceGp;
        let place = waits.then(|| slot.find()).flatten();
        // SAFETY: BEN-F2: as in `read`; the policy waits for sections that may sleep.
        look(place.map(|place| unsafe { Found::new(place) }));
    }
}

#[cfg(test)]
mod tests {
    use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

    use super::*;

    /// Frees an object while another session is in a section that may sleep, and then allocates and
    /// frees others. Returns whether the section found the object, and whether it was reused.
    fn beside_a_sleeper<P: ReusePolicy>() -> (bool, bool) {
        const OTHERS: u64 = 100_000;
        let scheme = Memalloc::<P>::build(Layout::new::<u64>()).unwrap();
        let slot = Slot::default();
        let mut writer = scheme.session();
        slot.swap(Some(writer.alloc().unwrap()));
        let (mut is_found, mut is_reused) = (false, false);
        let look = |found: Option<Found<'_>>| {
            is_found = found.is_some();
            let object = slot.swap(None).unwrap();
            let place = object.place();
            // SAFETY: BEN-F1: the object is of this scheme, and was swapped out.
            unsafe { writer.retire(object) };
            for _ in 0..OTHERS {
                let other = writer.alloc().unwrap();
                is_reused |= other.place() == place;
                // SAFETY: BEN-F1: the object is of this scheme, and was in no slot.
                unsafe { writer.retire(other) };
            }
        };
        // SAFETY: BEN-F1: the slot has only held the object above.
        unsafe { scheme.session().read_asleep(&slot, look) };
        drop(writer);
        scheme.close(1 + OTHERS).unwrap();
        (is_found, is_reused)
    }

    #[test]
    fn only_the_policy_with_tasks_trace_grace_periods_waits_for_a_sleeping_reader() {
        assert_eq!(beside_a_sleeper::<Immediate>(), (false, true));
        assert_eq!(beside_a_sleeper::<AfterRcuGp>(), (false, true));
        assert_eq!(beside_a_sleeper::<FreeAfterRcuGp>(), (false, true));
        assert_eq!(beside_a_sleeper::<AfterTasksTraceGp>(), (true, false));
    }
}
