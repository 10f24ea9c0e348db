//! What gives out objects, and keeps those that were freed until no reader looks at them any more.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use memalloc::{AllocErrorKind, MemAlloc, PolicyKind, ReusePolicy};

use crate::measure::WrongAnswer;
use crate::shape::Shape;

/// An allocator, with the sections of its readers.
pub(super) trait Heap: Sync + Sized {
    /// An allocator for a shape.
    fn build(shape: &Shape) -> Result<Self, WrongAnswer>;

    /// Whether what a reader finds stays the same object to the end of its section.
    fn protects_identity(sleeping: bool) -> bool;

    /// An object; `None` where its memory is used up.
    fn alloc(&self, layout: Layout) -> Result<Option<NonNull<u8>>, WrongAnswer>;

    /// Frees an object.
    ///
    /// # Safety
    ///
    /// It came from this heap with this layout, is in no slot any more, and is freed once.
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout);

    /// Has `read` run inside a section, of the kind that may sleep or of the other.
    fn section<R>(&self, sleeping: bool, read: impl FnOnce() -> R) -> R;

    /// Takes leave of the heap, all of whose objects are free, and checks its books.
    fn close(self) -> Result<(), WrongAnswer>;
}

/// The allocator of this project, as its plan says.
#[derive(Debug)]
pub(super) struct Memalloc<P: ReusePolicy>(MemAlloc<P>);

impl<P: ReusePolicy> Heap for Memalloc<P> {
    fn build(shape: &Shape) -> Result<Self, WrongAnswer> {
        let built = super::plan(P::KIND, shape).build();
        built.map(Self).map_err(|error| WrongAnswer(format!("building an allocator: {error}")))
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
        // SAFETY: the caller's promise. Under a policy that does not protect identity readers
        // believe nothing but that there is a stamp (INV-O2).
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
