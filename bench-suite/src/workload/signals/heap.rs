//! What is allocated from: by whatever a thread does, and by the handler that interrupts it.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use memalloc::rcu::Domain;
use memalloc::{CpuMode, MemAlloc, ReusePolicy};

use crate::measure::WrongAnswer;

/// How an object is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As the policy says.
    Plain,
    /// For reuse after a grace period.
    Deferred,
    /// For reuse at once, under every policy.
    Unshared,
}

impl Way {
    /// The way that a number stands for, counted round and round.
    pub(super) fn number(number: usize) -> Self {
        [Self::Plain, Self::Deferred, Self::Unshared][number % 3]
    }
}

/// Gives out memory, in any context.
pub(super) trait Heap: Sync + Sized {
    /// Memory, as much as the layout says. May wait.
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// As [`Heap::alloc`], in a signal handler; `None` also where it would have to wait.
    fn alloc_nowait(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Takes memory back, also in a signal handler.
    ///
    /// # Safety
    ///
    /// `place` came from this heap with this layout, and is not used any more.
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout, way: Way);

    /// One of the calls that a program makes seldom, and that take long, counted round and round.
    fn slow_call(&self, number: u64);

    /// Takes leave of the heap once everything was freed. Returns how many objects are missing.
    fn close(self) -> Result<u64, WrongAnswer>;
}

/// The allocator of this project, on a domain of its own.
pub(super) fn build<P: ReusePolicy>(mode: CpuMode) -> Result<MemAlloc<P>, WrongAnswer> {
    let built = MemAlloc::builder().cpu_mode(mode).domain(Domain::new()).build();
    built.map_err(|error| WrongAnswer(format!("building an allocator failed: {error}")))
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
        // SAFETY: the caller's promise is what each of them asks for; nobody reads objects here.
        unsafe {
            match way {
                Way::Plain => self.free(place, layout),
                Way::Deferred => self.free_rcu(place, layout),
                Way::Unshared => self.free_unshared(place, layout),
            }
        }
    }

    fn slow_call(&self, number: u64) {
        // Whether there was something to do does not matter: that it returns does. Once a thread
        // has read, what the others defer has to wait.
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
