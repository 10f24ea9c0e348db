//! An allocator behaves the same on every backing, and keeps its side of the contract.
#![cfg(not(loom))]

mod common;

use common::{Dice, Object, adds_up, behind, in_every_setup, layout};
use memalloc::backing::{Backing, FailOnDemand, System};
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, AllocErrorKind, Builder, FreeAfterRcuGp, MemAlloc, ReusePolicy};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const SLAB: u64 = 64 << 10;

/// Runs `test` with a builder for every backing.
fn on_every_backing<P: ReusePolicy>(builder: impl Fn() -> Builder<P>, test: impl Fn(Builder<P>)) {
    test(builder());
    test(builder().huge_pages(true));
    test(builder().backing(System));
    test(builder().backing(FailOnDemand::new(System)).huge_pages(true));
    #[cfg(all(target_os = "linux", not(miri)))]
    test(builder().backing(Watched::new(memalloc::backing::Mapped)).huge_pages(true));
    test(builder().backing(Watched::new(System)));
}

/// Allocates and frees at random, checks every object before it is freed, and ends the allocator.
fn work<P: ReusePolicy>(alloc: MemAlloc<P>) {
    let mut dice = Dice::new(2);
    let mut held: Vec<Object> = Vec::new();
    for phase in 0..8 {
        for pattern in 0..250 {
            let layout = layout(1 + dice.roll(4096), 1 << dice.roll(8));
            held.push(Object::new(&alloc, layout, pattern));
        }
        while held.len() > phase * 50 {
            let object = held.swap_remove(dice.roll(held.len()));
            if dice.roll(2) == 0 { object.free(&alloc) } else { object.free_rcu(&alloc) }
        }
        if phase % 3 == 2 {
            alloc.quiesce().expect("no guard is held");
        }
        adds_up(&alloc.stats(), held.len());
    }
    held.into_iter().for_each(|object| object.free(&alloc));
    alloc.destroy().expect("nothing leaked");
}

in_every_setup! {
    fn objects_are_whole_on_every_backing<P>(setup) {
        on_every_backing(
            || setup.builder::<P>().range_bytes(32 << 20),
            |builder| work(builder.build().expect("an allocator")),
        );
    }
}

/// Tracks every range and every part that has memory, and panics if the contract is broken.
#[derive(Debug)]
struct Watched<B> {
    behind: B,
    /// By start address: the layout, and the pages that have memory.
    ranges: Mutex<BTreeMap<usize, (Layout, Vec<bool>)>>,
    /// The number of calls so far that concern a part or the end of a range.
    calls: AtomicUsize,
    /// The number of bytes that huge pages were asked for.
    huge_bytes: AtomicUsize,
    /// The bytes of the largest part that was released.
    largest_release: AtomicUsize,
}

const PAGE: usize = 4096;

impl<B: Backing> Watched<B> {
    fn new(behind: B) -> Self {
        let ranges = Mutex::new(BTreeMap::new());
        let [calls, huge_bytes, largest_release] = [const { AtomicUsize::new(0) }; 3];
        Self { behind, ranges, calls, huge_bytes, largest_release }
    }

    /// Calls `look` with the pages of a part.
    fn pages<R>(&self, part: NonNull<[u8]>, look: impl FnOnce(&mut [bool]) -> R) -> R {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let start = part.cast::<u8>().addr().get();
        assert!(start.is_multiple_of(PAGE) && part.len().is_multiple_of(PAGE) && !part.is_empty());
        let mut ranges = self.ranges.lock().expect("no panic before");
        let (&base, (_, pages)) = ranges.range_mut(..=start).next_back().expect("a range");
        let first = (start - base) / PAGE;
        look(&mut pages[first..first + part.len() / PAGE])
    }
}

// SAFETY: every promise is kept by the inner backing. (A failing check unwinds, and fails the
// test.)
unsafe impl<B: Backing> Backing for Watched<B> {
    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        let start = self.behind.reserve(layout)?;
        assert!(start.addr().get().is_multiple_of(layout.align()));
        let range = (layout, vec![false; layout.size().div_ceil(PAGE)]);
        self.ranges.lock().expect("no panic before").insert(start.addr().get(), range);
        Ok(start)
    }

    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.behind.commit(part)? };
        // SAFETY: as long as the part, and committed; only pages without memory so far are
        // compared.
        let bytes = unsafe { std::slice::from_raw_parts(part.as_ptr().cast::<u8>(), part.len()) };
        self.pages(part, |pages| {
            for (page, bytes) in pages.iter_mut().zip(bytes.chunks(PAGE)) {
                assert!(*page || bytes.iter().all(|byte| *byte == 0), "fresh memory is zero");
                *page = true;
            }
        });
        Ok(())
    }

    unsafe fn release(&self, part: NonNull<[u8]>) -> bool {
        self.pages(part, |pages| assert!(pages.iter().all(|page| *page), "it has memory"));
        self.largest_release.fetch_max(part.len(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.behind.release(part) }
    }

    unsafe fn advise_huge(&self, part: NonNull<[u8]>) {
        self.pages(part, |pages| assert!(pages.iter().all(|page| *page), "it has memory"));
        self.huge_bytes.fetch_add(part.len(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.behind.advise_huge(part) };
    }

    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        self.pages(part, |pages| assert!(pages.iter().all(|page| *page), "it has memory"));
        // SAFETY: the caller's promise.
        unsafe { self.behind.advise_small(part) };
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let range = self.ranges.lock().expect("no panic before").remove(&start.addr().get());
        assert_eq!(range.expect("a range").0, layout);
        // SAFETY: the caller's promise.
        unsafe { self.behind.unreserve(start, layout) };
    }
}

#[test]
fn huge_pages_are_asked_for_behind_every_chunk_of_slabs() {
    for wanted in [true, false] {
        let backing = Arc::new(Watched::new(System));
        let builder = MemAlloc::<AfterRcuGp>::builder().backing(Arc::clone(&backing));
        let alloc = builder.range_bytes(1).huge_pages(wanted).build().expect("an allocator");
        let layout = layout(4096, 1);
        // The first slab is never used: one object more than the rest of two chunks holds.
        let held: Vec<_> = (0..2 * 512 - 15).map(|_| Object::new(&alloc, layout, 1)).collect();
        let chunks = if wanted { 3 } else { 0 };
        assert_eq!(backing.huge_bytes.load(Ordering::Relaxed), chunks * (2 << 20));
        held.into_iter().for_each(|object| object.free(&alloc));
        alloc.destroy().expect("nothing leaked");
    }
}

#[test]
fn every_range_goes_back_to_its_backing_when_the_allocator_ends() {
    let backing = Arc::new(Watched::new(System));
    let builder = || MemAlloc::<AfterRcuGp>::builder().backing(Arc::clone(&backing));
    let alloc = builder().range_bytes(1).build().expect("an allocator");
    assert!(!backing.ranges.lock().expect("no panic").is_empty());
    drop(alloc);
    assert!(backing.ranges.lock().expect("no panic").is_empty());

    // An object that a user still holds keeps its range, and its backing.
    let alloc = builder().range_bytes(1).build().expect("an allocator");
    let held = Object::new(&alloc, layout(100, 1), 7);
    alloc.destroy().expect_err("one object leaked");
    assert!(!backing.ranges.lock().expect("no panic").is_empty());
    held.check();
    assert!(Arc::strong_count(&backing) > 1);
}

in_every_setup! {
    /// A drop that may not wait leaves everything that takes long to the domain.
    fn a_drop_beside_a_guard_asks_nothing_of_the_backing<P>(setup) {
        let (domain, backing) = (setup.domain(), Arc::new(Watched::new(System)));
        let calls = || backing.calls.load(Ordering::Relaxed);
        behind(|| (domain.pin(), domain.pin_trace()), || {
            let builder = setup.builder::<P>().domain(domain.clone()).range_bytes(1);
            let alloc = builder.backing(Arc::clone(&backing)).build().expect("an allocator");
            for size in [64, 4096] {
                let held: Vec<_> =
                    (0..500).map(|_| Object::new(&alloc, layout(size, 1), 1)).collect();
                held.into_iter().for_each(|object| object.free(&alloc));
            }
            let before = calls();
            drop(alloc);
            assert_eq!(calls(), before);
        });
        domain.barrier().expect("no section is open");
        domain.trace().barrier().expect("no section is open");
        assert!(backing.ranges.lock().expect("no panic").is_empty());
    }
}

/// Each allocator on a shared backing has its own ranges.
#[test]
fn allocators_may_share_a_backing() {
    let backing = Arc::new(Watched::new(System));
    let built = || {
        let builder = MemAlloc::<AfterRcuGp>::builder().backing(Arc::clone(&backing));
        builder.range_bytes(1).build().expect("an allocator")
    };
    let (first, second) = (built(), built());
    let held = Object::new(&first, layout(64, 64), 1);
    work(second);
    held.free(&first);
    work(first);
    assert!(backing.ranges.lock().expect("no panic").is_empty());
}

in_every_setup! {
    /// A backing that takes no memory back is asked to; the memory that it keeps is counted and
    /// used again.
    fn memory_that_a_backing_keeps_is_counted_and_used_again<P>(setup) {
        let alloc = setup.builder::<P>().backing(System).range_bytes(1).build();
        let alloc = alloc.expect("an allocator");
        let mut most = 0;
        for class in [4096, 64, 1024] {
            let layout = layout(class, 1);
            let objects: Vec<_> =
                (0..40 * SLAB / class as u64).map(|_| Object::new(&alloc, layout, 1)).collect();
            most = most.max(alloc.backing_bytes());
            objects.into_iter().for_each(|object| object.free(&alloc));
            let reclaimed = alloc.quiesce().expect("no guard is held");
            assert_eq!(reclaimed.released_bytes, 0);
            assert_eq!(alloc.backing_bytes(), most);
            assert_eq!(alloc.stats().slabs, 0);
        }
        assert!(most <= 42 * SLAB, "{most} bytes for 40 slabs at a time");
    }
}

#[test]
fn the_default_range_is_that_of_the_backing() {
    let alloc = MemAlloc::<AfterRcuGp>::builder().backing(System).build().expect("an allocator");
    let layout = layout(4096, 1);
    let mut held = Vec::new();
    let error = loop {
        match alloc.alloc(layout) {
            // Not touched: the range is 64 MiB.
            Ok(memory) => held.push(memory.cast()),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(error, AllocErrorKind::RangeExhausted { range: System.default_range_bytes() });
    // SAFETY: allocated above with this layout.
    held.into_iter().for_each(|object| unsafe { alloc.free(object, layout) });
    alloc.destroy().expect("nothing leaked");
}

/// Other threads may need the slabs meanwhile. Adjacent slabs go back together, so a call that
/// empties all of them and then returns all returns larger parts.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_call_that_empties_many_slabs_returns_a_few_at_a_time() {
    type Alloc = MemAlloc<FreeAfterRcuGp>;
    for call in [Alloc::tend, |alloc: &Alloc| _ = alloc.quiesce().expect("no guard is held")] {
        let backing = Arc::new(Watched::new(memalloc::backing::Mapped));
        let builder = Alloc::builder().backing(Arc::clone(&backing)).range_bytes(64 << 20);
        let builder = builder.domain(Domain::new()).max_pending(u64::MAX);
        let alloc = builder.build().expect("an allocator");
        let held: Vec<_> = (0..400 * 16).map(|_| Object::new(&alloc, layout(4096, 1), 1)).collect();
        let guard = alloc.domain().pin();
        held.into_iter().for_each(|object| object.free(&alloc));
        drop(guard);
        // `tend` waits for no grace period.
        (0..4).for_each(|_| call(&alloc));
        assert_eq!(alloc.stats().taken.objects, 0);
        let slabs = backing.largest_release.load(Ordering::Relaxed) as u64 / SLAB;
        assert!((1..24).contains(&slabs), "{slabs} at a time");
    }
}
