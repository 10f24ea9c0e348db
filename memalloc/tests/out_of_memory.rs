//! Refuses each request for memory, once and from then on. The allocator returns errors, loses
//! nothing, and continues as soon as there is memory again.
#![cfg(not(loom))]

mod common;
#[path = "common/leak.rs"]
mod leak;

use common::{Object, Setup, adds_up, held_bytes, in_every_setup, layout};
use leak::leak;
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{AfterRcuGp, AllocErrorKind, BuildError, ClassTable, MemAlloc, ReusePolicy};
use std::cell::Cell;
use std::io;
use std::ops::RangeBounds;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(all(target_os = "linux", not(miri)))]
type Behind = memalloc::backing::Mapped;
#[cfg(not(all(target_os = "linux", not(miri))))]
type Behind = System;

/// More batches of the smallest class than the table initially has memory for.
const MANY: usize = 80_000;

/// The results of a run.
#[derive(Debug, Default)]
struct Met {
    /// Builds that failed.
    unbuilt: u64,
    /// Allocations that failed.
    unserved: u64,
    /// Requests that the backing refused, and all that it received.
    refused: u64,
    requests: u64,
}

/// The objects of a test, and the number of failed allocations.
struct Held<'a, P: ReusePolicy> {
    alloc: &'a MemAlloc<P>,
    objects: Vec<Object>,
    unserved: u64,
}

impl<P: ReusePolicy> Held<'_, P> {
    /// Allocates `count` objects, or as many as possible.
    fn take(&mut self, size: usize, count: usize) {
        let enough = self.unserved + 20;
        for pattern in 0..count {
            if self.unserved == enough {
                break;
            }
            let layout = layout(size, 1);
            match self.alloc.alloc(layout) {
                Ok(memory) => {
                    self.objects.push(Object::filled(memory.cast(), layout, pattern as u8))
                }
                Err(error) => {
                    assert_eq!(error.kind(), AllocErrorKind::OutOfMemory);
                    self.unserved += 1;
                }
            }
        }
        self.add_up();
    }

    fn add_up(&self) {
        adds_up(&self.alloc.stats(), self.objects.len());
    }
}

/// Runs one life of an allocator whose backing refuses the requests `refused`.
fn live<P: ReusePolicy>(setup: &Setup, refused: impl RangeBounds<u64>) -> Met {
    let backing = Arc::new(FailOnDemand::new(Behind::default()));
    backing.fail(refused);
    let mut met = Met::default();
    // Few classes, because counting the objects means looking at each class.
    let classes = ClassTable::new(&[16, 64, 256, 1024, 4096]).expect("a table");
    match setup.builder::<P>().classes(classes).backing(Arc::clone(&backing)).build() {
        Ok(alloc) => {
            met.unserved = work(&alloc, &backing);
            let stats = alloc.destroy().expect("nothing leaked");
            assert_eq!((stats.taken.objects, held_bytes(&stats)), (0, 0));
        }
        Err(error) => {
            let BuildError::Reserve(reason) = error else { panic!("{error}") };
            assert_eq!(reason.kind(), io::ErrorKind::OutOfMemory);
            met.unbuilt = 1;
        }
    }
    assert_eq!(Arc::strong_count(&backing), 1, "nothing is held");
    met.refused = backing.failures();
    met.requests = backing.requests();
    met
}

/// Uses every path that asks for memory. Returns how many allocations failed.
fn work<P: ReusePolicy>(alloc: &MemAlloc<P>, backing: &FailOnDemand<Behind>) -> u64 {
    let mut held = Held { alloc, objects: Vec::new(), unserved: 0 };
    // More than one chunk of slabs.
    held.take(4096, 520);
    for object in held.objects.drain(..) {
        object.free_unshared(alloc);
    }
    held.add_up();
    // More pending batches than the table began with, behind a reader.
    held.take(16, MANY);
    held.take(1024, 10);
    let guard = alloc.domain().pin();
    let small = held.objects.len().saturating_sub(10);
    for object in held.objects.drain(..small) {
        object.free_rcu(alloc);
    }
    held.add_up();
    held.take(64, 500);
    held.take(16, 100);
    drop(guard);

    // A flush completes without memory.
    alloc.quiesce().expect("no guard is held");
    held.add_up();
    assert_eq!(alloc.stats().taken, alloc.stats().live, "one call was enough");
    held.take(256, 100);

    // With memory again, everything works.
    backing.fail(0..0);
    let unserved = std::mem::take(&mut held.unserved);
    held.take(4096, 520);
    assert_eq!(held.unserved, 0);
    for (number, object) in held.objects.drain(..).enumerate() {
        if number % 2 == 0 { object.free(alloc) } else { object.free_rcu(alloc) }
    }
    held.add_up();
    unserved
}

in_every_setup! {
    /// A request that is refused once is repeated, or not needed.
    fn no_single_refused_request_makes_an_allocation_fail<P>(setup) {
        let mut requests = 0;
        for number in 0.. {
            let met = live::<P>(setup, number..=number);
            assert_eq!((met.unbuilt, met.unserved), (0, 0), "request {number}");
            if met.refused == 0 {
                break;
            }
            requests = met.requests;
        }
        assert!(requests > 8, "three ranges, the caches and chunks: {requests}");
    }
}

in_every_setup! {
    /// No more memory from some request on: calls that need memory get an error, and nothing else
    /// fails.
    fn an_allocator_that_gets_no_more_memory_stays_whole<P>(setup) {
        let (mut unbuilt, mut unserved) = (0, 0);
        for number in 0.. {
            let met = live::<P>(setup, number..);
            unbuilt += met.unbuilt;
            unserved += u64::from(met.unserved > 0);
            if met.refused == 0 {
                break;
            }
        }
        assert!(unbuilt >= 3 && unserved >= 5, "{unbuilt} and {unserved}: every path was taken");
    }
}

/// Counts its drop in the counter that it refers to.
#[derive(Debug)]
struct Counted(&'static AtomicUsize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

in_every_setup! {
    /// Every value is dropped once, even if there is no memory for batches that take the values
    /// through their grace period.
    fn destructors_run_without_memory_for_batches<ProtectsIdentity>(setup) {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        DROPPED.store(0, Ordering::Relaxed);
        let backing = Arc::new(FailOnDemand::new(Behind::default()));
        let builder = setup.cache_builder::<Counted, P>().backing(Arc::clone(&backing));
        let cache = builder.build().expect("a cache");
        let value = || cache.alloc(Counted(&DROPPED)).expect("memory").into_raw();
        let values: Vec<_> = (0..MANY).map(|_| value()).collect();
        let domain = cache.domain().clone();
        let guard = domain.pin();
        backing.fail(..);
        for value in values {
            // SAFETY: allocated above, freed once; it has no readers.
            unsafe { cache.free_raw(value) };
        }
        assert!(backing.failures() > 0, "batches ran out");
        assert_eq!(DROPPED.load(Ordering::Relaxed), 0, "a reader holds them up");
        drop(guard);
        drop(cache);
        assert_eq!(DROPPED.load(Ordering::Relaxed), MANY);
    }
}

/// The range is halved until the backing grants it.
#[test]
fn an_allocator_makes_do_with_the_range_that_it_gets() {
    let backing = FailOnDemand::new(System);
    backing.fail(..2);
    let builder = MemAlloc::<AfterRcuGp>::builder().backing(backing).range_bytes(128 << 20);
    let alloc = builder.build().expect("an allocator");
    let mut held = Vec::new();
    let error = loop {
        match alloc.alloc(layout(4096, 1)) {
            Ok(memory) => held.push(memory.cast()),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(error, AllocErrorKind::RangeExhausted { range: 32 << 20 });
    // SAFETY: allocated above with this layout.
    held.into_iter().for_each(|object| unsafe { alloc.free(object, layout(4096, 1)) });
    alloc.destroy().expect("nothing leaked");
}

thread_local! {
    /// The allocator of the next test, if its finalizer is to use up the memory that is left.
    static GREEDY: Cell<Option<&'static MemAlloc<AfterRcuGp>>> = const { Cell::new(None) };
}

unsafe fn use_up(_: NonNull<u8>) {
    if let Some(alloc) = GREEDY.take() {
        // The last ones of these fail when every grace period has passed that can.
        (0..4).for_each(|_| while alloc.alloc(layout(64, 1)).is_ok() {});
    }
}

/// Objects that have passed their grace period are not finished inside a finalizer. Readers hold up
/// all others meanwhile.
#[test]
fn an_allocation_that_fails_in_a_finalizer_leaves_the_memory_to_the_next_ones() {
    let domain = Domain::builder().barrier_kind(BarrierKind::Fence).build().expect("a domain");
    let small = layout(64, 1);
    // SAFETY: the finalizer leaves the object alone.
    let builder = unsafe { MemAlloc::<AfterRcuGp>::builder().finalizer(use_up) };
    let builder = builder.domain(domain.clone()).limit_bytes(8 << 20).max_pending(u64::MAX);
    let alloc = leak(builder.build().expect("an allocator"));
    let mut all: Vec<_> = std::iter::from_fn(|| alloc.alloc(small).ok()).collect();
    let objects = all.len();
    let mut free = |count| {
        // SAFETY: allocated with this layout, and freed once.
        all.drain(..count).for_each(|object| unsafe { alloc.free(object.cast(), small) });
    };
    let guard = domain.pin();
    free(objects - 5_000);
    drop(guard);
    free(2_500);
    assert!(alloc.stats().cached.objects > 0, "a check for readers was due");
    let _inside = (domain.pin(), domain.pin_trace());
    GREEDY.set(Some(alloc));
    free(2_500);
    assert!(GREEDY.take().is_none(), "the finalizer has used up what was ready");
    let got = std::iter::from_fn(|| alloc.alloc(small).ok()).count();
    assert!(got > objects / 2, "{got} of {objects}");
}
