//! The interface of the allocator: it hands out objects, and keeps freed ones until no reader can
//! read them.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use memalloc::{AllocErrorKind, MemAlloc, PolicyKind, ReusePolicy};

use crate::measure::{CutOff, NoReadings, WrongAnswer};
use crate::shape::Shape;

/// An allocator with read sections.
pub(super) trait Heap: Sync + Sized {
    /// Builds an allocator for a shape.
    fn build(shape: &Shape) -> Result<Self, NoReadings>;

    /// Returns whether a found object stays the same object until the end of the read section.
    fn protects_identity(sleeping: bool) -> bool;

    /// Allocates an object; `None` if the memory limit is reached.
    fn alloc(&self, layout: Layout) -> Result<Option<NonNull<u8>>, WrongAnswer>;

    /// Frees an object.
    ///
    /// # Safety
    ///
    /// It came from this heap with this layout, is in no slot any more, and is freed once.
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout);

    /// Calls `read` inside a section, which may sleep if `sleeping`.
    fn section<R>(&self, sleeping: bool, read: impl FnOnce() -> R) -> R;

    /// Destroys the heap, all of whose objects are free, and checks its statistics.
    fn close(self) -> Result<(), WrongAnswer>;
}

/// `memalloc`, built by the plan that the user is shown.
#[derive(Debug)]
pub(super) struct Memalloc<P: ReusePolicy>(MemAlloc<P>);

impl<P: ReusePolicy> Heap for Memalloc<P> {
    fn build(shape: &Shape) -> Result<Self, NoReadings> {
        let built = super::plan(P::KIND, shape).build();
        built.map(Self).map_err(|error| CutOff::refused("building an allocator", error).into())
    }

    fn protects_identity(sleeping: bool) -> bool {
        if sleeping { P::KIND == PolicyKind::AfterTasksTraceGp } else { P::PROTECTS_IDENTITY }
    }

    #[inline]
    fn alloc(&self, layout: Layout) -> Result<Option<NonNull<u8>>, WrongAnswer> {
        match self.0.alloc(layout) {
            Ok(object) => Ok(Some(object.cast())),
            Err(error) => match error.kind() {
                AllocErrorKind::LimitReached { .. } => Ok(None),
                kind => Err(WrongAnswer(format!("an allocation failed: {kind}"))),
            },
        }
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise. Under a policy that does not protect identity, readers rely
        // only on there being a stamp (BEN-O2).
        unsafe { self.0.free(place, layout) };
    }

    #[inline]
    fn section<R>(&self, sleeping: bool, read: impl FnOnce() -> R) -> R {
        if sleeping {
            let _section = self.0.domain().pin_trace();
            read()
        } else {
            let _section = self.0.domain().pin();
            read()
        }
    }

    fn close(self) -> Result<(), WrongAnswer> {
        self.0
            .quiesce()
            .map_err(|error| WrongAnswer(format!("waiting for a grace period failed: {error}")))?;
        let stats = self.0.stats();
        let accounted = stats.live.objects + stats.cached.objects + stats.pending.objects;
        if accounted != stats.taken.objects || stats.pending.objects != 0 {
            return Err(WrongAnswer(format!("the statistics do not add up: {stats:?}")));
        }
        match self.0.destroy() {
            Ok(_) => Ok(()),
            Err(leak) => Err(WrongAnswer(format!("after everything was freed: {leak}"))),
        }
    }
}
