//! The interface of the allocator, which a thread and the handler that interrupts it both use.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use memalloc::rcu::Domain;
use memalloc::{CpuMode, MemAlloc, ReusePolicy};

use crate::measure::{CutOff, NoReadings, WrongAnswer};

/// The way an object is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// According to the policy.
    Plain,
    /// For reuse after a grace period.
    Deferred,
    /// For reuse at once, under every policy.
    Unshared,
}

impl Way {
    /// Returns the way for a number, modulo the number of ways.
    pub(super) fn number(number: usize) -> Self {
        [Self::Plain, Self::Deferred, Self::Unshared][number % 3]
    }
}

/// An allocator for any context.
pub(super) trait Heap: Sync + Sized {
    /// Allocates memory for a layout. May block.
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Like [`Heap::alloc`], in a signal handler; returns `None` also if it would have to block.
    fn alloc_nowait(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Frees memory, also in a signal handler.
    ///
    /// # Safety
    ///
    /// `place` came from this heap with this layout, and is not used again.
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout, way: Way);

    /// Makes one of the rare and slow calls, selected by `number`.
    fn slow_call(&self, number: u64);

    /// Destroys the heap after everything was freed. Returns the number of missing objects.
    fn close(self) -> Result<u64, WrongAnswer>;
}

/// Builds `memalloc` on a separate domain.
pub(super) fn build<P: ReusePolicy>(mode: CpuMode) -> Result<MemAlloc<P>, NoReadings> {
    let built = MemAlloc::builder().cpu_mode(mode).domain(Domain::new()).build();
    built.map_err(|error| CutOff::refused("building an allocator", error).into())
}

impl<P: ReusePolicy> Heap for MemAlloc<P> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.alloc(layout).ok().map(NonNull::cast)
    }

    #[inline]
    fn alloc_nowait(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.alloc_nowait(layout).ok().map(NonNull::cast)
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout, way: Way) {
        // SAFETY: the caller's promise is what each of them requires; no thread reads objects here.
        unsafe {
            match way {
                Way::Plain => self.free(place, layout),
                Way::Deferred => self.free_rcu(place, layout),
                Way::Unshared => self.free_unshared(place, layout),
            }
        }
    }

    fn slow_call(&self, number: u64) {
        // Only that the call returns matters, not its result. Once a thread has registered as a
        // reader, deferred frees have to wait for it.
        match number % 5 {
            0 => _ = self.trim(),
            1 => self.domain().register(),
            2 => _ = self.stats(),
            3 => _ = self.quiesce(),
            _ => _ = self.domain().synchronize(),
        }
    }

    fn close(self) -> Result<u64, WrongAnswer> {
        self.quiesce()
            .map_err(|error| WrongAnswer(format!("waiting for a grace period failed: {error}")))?;
        let stats = self.stats();
        let accounted = stats.live.objects + stats.cached.objects + stats.pending.objects;
        if accounted != stats.taken.objects {
            return Err(WrongAnswer(format!("the statistics do not add up: {stats:?}")));
        }
        Ok(stats.live.objects)
    }
}
