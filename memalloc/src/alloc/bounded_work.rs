//! No call does more work the more has been held up. Work is the number of times that the call has
//! looked at a batch.
//!
//! The caches are those of threads, so that no test depends on the CPU that its thread is on. The
//! ranges grow in steps, so that there are no more batches than the objects need.

#[path = "../../tests/common/leak.rs"]
mod leak;

use super::{Cache, MemAlloc};
use crate::backing::{self, Backing};
use crate::batch::visits;
use crate::rcu::{BarrierKind, Domain, waits};
use crate::{
    AfterRcuGp, AfterTasksTraceGp, Builder, CpuMode, FreeAfterRcuGp, Immediate, ProtectsIdentity,
    ReusePolicy,
};
use leak::leak;
use std::alloc::Layout;
use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::ptr::NonNull;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// In batches.
const STALLS: [usize; 2] = [500, 5_000];

/// A call moves at most 8 batches along each part of the path, and looks at each no more than 30
/// times on its way.
const MOST_VISITS: u64 = 8 * 30;

/// The smallest objects, of which a batch has the most.
const LAYOUT: Layout = Layout::new::<[u64; 2]>();
const BATCH: usize = 250;

fn builder<P: ReusePolicy>(domain: &Domain, max_pending: u64) -> Builder<P> {
    let builder = MemAlloc::<P>::builder().domain(domain.clone()).cpu_mode(CpuMode::ActiveThread);
    builder.backing(InSteps::new()).range_bytes(1 << 30).max_pending(max_pending)
}

/// The usual memory, in ranges that grow in steps.
#[derive(Debug)]
struct InSteps {
    behind: Arc<dyn Backing>,
    /// By address.
    ranges: Mutex<HashMap<usize, Layout>>,
}

impl InSteps {
    fn new() -> Self {
        Self { behind: backing::usual(), ranges: Mutex::default() }
    }
}

// SAFETY: each range is one of `behind`, whole from the start.
unsafe impl Backing for InSteps {
    fn default_range_bytes(&self) -> u64 {
        self.behind.default_range_bytes()
    }

    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        let start = self.behind.reserve(layout)?;
        self.ranges.lock().unwrap().insert(start.addr().get(), layout);
        Ok(start)
    }

    fn reserve_growing(&self, layout: Layout) -> io::Result<(NonNull<u8>, usize)> {
        self.reserve(layout).map(|start| (start, 0))
    }

    unsafe fn grow(&self, start: NonNull<u8>, had: usize, wanted: usize) -> io::Result<()> {
        let most = self.ranges.lock().unwrap()[&start.addr().get()].size();
        assert!(wanted.is_multiple_of(4096) && had < wanted && wanted <= most, "{had}, {wanted}");
        Ok(())
    }

    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.behind.commit(part) }
    }

    unsafe fn release(&self, part: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.behind.release(part) }
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, _: Layout) {
        let layout = self.ranges.lock().unwrap().remove(&start.addr().get());
        // SAFETY: the caller's promise, with the layout of `reserve`.
        unsafe { self.behind.unreserve(start, layout.expect("reserved above")) };
    }
}

/// Returns a domain whose readers never stall.
fn patient(barrier: BarrierKind) -> Domain {
    let builder = Domain::builder().stall_after(Duration::from_secs(1 << 30));
    builder.barrier_kind(barrier).build().expect("a domain")
}

/// The kinds that can be in force. An adaptive barrier is one of them at any time, depending on the
/// speed of the machine.
fn barriers() -> impl Iterator<Item = BarrierKind> {
    let kinds = [BarrierKind::Membarrier, BarrierKind::Fence];
    kinds.into_iter().filter(|kind| kind.is_supported())
}

/// A small and a large stall under every kind of barrier.
fn stalls() -> impl Iterator<Item = (BarrierKind, usize)> {
    barriers().flat_map(|barrier| STALLS.map(|batches| (barrier, batches)))
}

/// Allocates an object and frees it deferred. Returns the work that took.
fn pair<P: ReusePolicy>(alloc: &MemAlloc<P>) -> u64 {
    let before = visits::so_far();
    let object = alloc.alloc(LAYOUT).expect("memory").cast();
    // SAFETY: the object came from there with this layout, and is freed once.
    unsafe { alloc.free_rcu(object, LAYOUT) };
    visits::so_far() - before
}

fn most_of<P: ReusePolicy>(alloc: &MemAlloc<P>, pairs: usize) -> u64 {
    (0..pairs).map(|_| pair(alloc)).max().unwrap_or(0)
}

/// The calls after a stall of `batches` batches, until all of these are gone.
fn most_work_after_a_stall<P: ReusePolicy>(
    barrier: BarrierKind,
    batches: usize,
    max_pending: u64,
) -> u64 {
    // The thread itself is the reader: its frees do not wait for it.
    let domain = patient(barrier);
    let alloc = builder::<P>(&domain, max_pending).build().expect("an allocator");
    let guard = (domain.pin(), domain.pin_trace());
    let during = most_of(&alloc, batches * BATCH);
    let held_up = || alloc.stats().pending.objects;
    assert!(held_up() as usize > (batches - 2) * BATCH, "it is held up");
    drop(guard);
    // Another one, behind which the calls that cannot wait continue.
    let guard = domain.pin();
    let inside = most_of(&alloc, 50 * BATCH);
    drop(guard);
    let mut after = 0;
    // Each call that moves batches moves at least one more than it adds.
    for _ in 0..batches {
        if held_up() as usize > 100 * BATCH {
            after = after.max(most_of(&alloc, BATCH));
        }
    }
    let left = held_up() as usize / BATCH;
    assert!(left <= 100, "{:?}: {left} of {batches} batches are left", P::KIND);
    during.max(inside).max(after)
}

/// The calls after `batches` batches of objects were freed while the cache was busy.
fn most_work_after_a_cache_was_busy(batches: usize) -> u64 {
    let builder = builder::<AfterRcuGp>(&Domain::new(), 4 << 20);
    let alloc = builder.build().expect("an allocator");
    let objects = batches * BATCH;
    let held: Vec<_> = (0..objects).map(|_| alloc.alloc_handle(LAYOUT).expect("memory")).collect();
    held.into_iter().for_each(|object| alloc.raw().push_extra(0, object));
    most_of(&alloc, objects)
}

fn is_bounded<P: ReusePolicy>(max_pending: u64) {
    for (barrier, batches) in stalls() {
        let most = most_work_after_a_stall::<P>(barrier, batches, max_pending);
        assert!(most <= MOST_VISITS, "{barrier}, {:?}: {most} of {batches} batches", P::KIND);
    }
}

fn is_bounded_under_every_policy(max_pending: u64) {
    is_bounded::<Immediate>(max_pending);
    is_bounded::<AfterRcuGp>(max_pending);
    is_bounded::<FreeAfterRcuGp>(max_pending);
    is_bounded::<AfterTasksTraceGp>(max_pending);
}

#[test]
fn no_call_looks_at_more_batches_the_more_were_held_up() {
    is_bounded_under_every_policy(u64::MAX);
}

#[test]
fn nor_does_one_beyond_max_pending() {
    is_bounded_under_every_policy(256 << 10);
}

#[test]
fn nor_does_one_after_a_cache_was_busy() {
    for batches in STALLS {
        let most = most_work_after_a_cache_was_busy(batches);
        // It also moves up to two batches of these objects, one at a time.
        let bound = MOST_VISITS + 2 * BATCH as u64;
        assert!(most <= bound, "{most} visits of {batches} batches");
    }
}

#[test]
fn a_reader_of_the_other_flavour_adds_no_work_to_a_free() {
    fn alone_and_beside<P: ReusePolicy>(barrier: BarrierKind) -> [u64; 2] {
        let domain = patient(barrier);
        let alloc = builder::<P>(&domain, 256 << 10).build().expect("an allocator");
        let work = || (0..500 * BATCH).map(|_| pair(&alloc)).sum::<u64>();
        work();
        let alone = work();
        let _sleeper = domain.pin_trace();
        [alone, work()]
    }
    for barrier in barriers() {
        for [alone, beside] in [
            alone_and_beside::<Immediate>(barrier),
            alone_and_beside::<AfterRcuGp>(barrier),
            alone_and_beside::<FreeAfterRcuGp>(barrier),
        ] {
            assert_eq!(alone, beside);
        }
        let [alone, beside] = alone_and_beside::<AfterTasksTraceGp>(barrier);
        assert!(alone < beside, "it waits for sleepers");
    }
}

/// A batch of large objects has as many bytes as 16 batches of the smallest ones, of which these
/// frees make room.
#[test]
fn a_free_beyond_max_pending_waits_for_nobody_while_anything_is_ready() {
    let (domain, large) = (patient(BarrierKind::best()), Layout::new::<[u64; 512]>());
    let alloc = builder::<AfterRcuGp>(&domain, 256 << 10).build().expect("an allocator");
    let guard = domain.pin();
    most_of(&alloc, 500 * BATCH);
    drop(guard);
    let before = waits::so_far();
    for _ in 0..100 {
        let object = alloc.alloc(large).expect("memory").cast();
        // SAFETY: allocated with this layout, and freed once.
        unsafe { alloc.free(object, large) };
    }
    assert!(alloc.stats().pending.bytes > 256 << 10, "it is still beyond");
    assert_eq!(waits::so_far(), before);
}

/// A value that frees others into its own cache when it is dropped: a chain of `next`.
struct Owner<P: ProtectsIdentity> {
    next: Option<NonNull<Self>>,
    cache: &'static Cache<Self, P>,
}

// SAFETY: a value owns the object that its pointer names.
unsafe impl<P: ProtectsIdentity> Send for Owner<P> {}
// SAFETY: no thread reads through a shared value.
unsafe impl<P: ProtectsIdentity> Sync for Owner<P> {}

impl<P: ProtectsIdentity> Owner<P> {
    /// Returns the first of a chain of `length`.
    fn chain(cache: &'static Cache<Self, P>, length: usize) -> NonNull<Self> {
        let longer = |next| {
            let Ok(owner) = cache.alloc(Self { next, cache }) else { panic!("memory") };
            Some(owner.into_raw())
        };
        (0..length).fold(None, |next, _| longer(next)).expect("it is not empty")
    }

    /// Allocates a chain and frees its first value. Returns the work of the free.
    fn free(cache: &'static Cache<Self, P>, length: usize) -> u64 {
        let first = Self::chain(cache, length);
        let before = visits::so_far();
        // SAFETY: never published, and freed once.
        unsafe { cache.free_raw(first) };
        visits::so_far() - before
    }
}

impl<P: ProtectsIdentity> Drop for Owner<P> {
    fn drop(&mut self) {
        if let Some(next) = self.next {
            // SAFETY: this value owned it, and is dropped once.
            unsafe { self.cache.free_raw(next) };
        }
    }
}

/// A thread that was a reader and may be one again, so that a check for readers takes a barrier. It
/// ends with this.
struct IdleReader(#[allow(dead_code, reason = "its drop ends the thread")] Sender<()>);

impl IdleReader {
    fn of(domain: &Domain) -> Self {
        let ((end, until), (began, has_begun)) = (mpsc::channel(), mpsc::channel());
        let domain = domain.clone();
        thread::spawn(move || {
            drop((domain.pin(), domain.pin_trace()));
            began.send(()).expect("it is waited for");
            _ = until.recv();
        });
        has_begun.recv().expect("the thread runs");
        Self(end)
    }
}

/// Chains of values, whose first values are held up by a reader.
struct Stall<P: ProtectsIdentity> {
    domain: Domain,
    cache: &'static Cache<Owner<P>, P>,
    /// The work of the longest free so far.
    most: u64,
}

impl<P: ProtectsIdentity> Stall<P> {
    /// Holds up `batches` batches of chains of `length` values, and lets the reader leave.
    fn of(barrier: BarrierKind, batches: usize, length: usize, max_pending: u64) -> Self {
        let domain = patient(barrier);
        let builder = Cache::<Owner<P>, P>::builder().domain(domain.clone());
        let builder = builder.cpu_mode(CpuMode::ActiveThread).max_pending(max_pending);
        let cache = leak(builder.build().expect("a cache"));
        let guard = (domain.pin(), domain.pin_trace());
        let free = |_| Owner::free(cache, length);
        let most = (0..batches * BATCH).map(free).max().unwrap_or(0);
        drop(guard);
        Self { domain, cache, most }
    }

    fn pending(&self) -> usize {
        self.cache.stats().pending.objects as usize
    }

    /// Frees chains of `length` values until few of the others are left, but at most `frees`. Half
    /// of the time a reader is inside again, which holds up what finalizers free.
    fn work_off(&mut self, length: usize, frees: usize) {
        for batch in 0..frees / BATCH {
            if self.pending() < 100 * BATCH {
                break;
            }
            let _inside = (batch % 2 == 0).then(|| self.domain.pin());
            let most = (0..BATCH).map(|_| Owner::free(self.cache, length)).max();
            self.most = self.most.max(most.unwrap_or(0));
        }
    }
}

/// No call has more than `times` as many visits as one that runs no hooks.
fn is_bounded_with_hooks<P: ProtectsIdentity>(max_pending: u64, times: u64) {
    for (barrier, batches) in stalls() {
        for length in [1, 2, 5] {
            let mut stall = Stall::<P>::of(barrier, batches, length, max_pending);
            stall.work_off(1, 2 * length * batches * BATCH);
            let (most, left) = (stall.most, stall.pending() / BATCH);
            let what = format!("{barrier}, {:?}, {batches} chains of {length}", P::KIND);
            assert!(most <= times * MOST_VISITS, "{what}: {most} visits");
            assert!(left <= 100, "{what}: {left} batches are left");
        }
    }
}

/// The values are dropped in frees, and each frees another one.
#[test]
fn no_free_does_more_work_the_more_was_held_up_although_finalizers_free() {
    is_bounded_with_hooks::<AfterRcuGp>(u64::MAX, 4);
    is_bounded_with_hooks::<FreeAfterRcuGp>(u64::MAX, 4);
    is_bounded_with_hooks::<AfterTasksTraceGp>(u64::MAX, 4);
}

fn is_bounded_beside_a_reader<P: ProtectsIdentity>() {
    for (barrier, batches) in stalls() {
        for length in [5, 20] {
            let mut stall = Stall::<P>::of(barrier, batches, length, 256 << 10);
            let _reader = IdleReader::of(&stall.domain);
            stall.work_off(1, 2 * length * batches * BATCH);
            let (most, bound) = (stall.most, 2 * length as u64 * MOST_VISITS);
            let what = format!("{barrier}, {:?}, {batches} chains of {length}", P::KIND);
            assert!(most <= bound, "{what}: {most} visits");
        }
    }
}

#[test]
fn nor_does_one_beyond_max_pending_although_checks_for_readers_are_seldom() {
    is_bounded_beside_a_reader::<AfterRcuGp>();
    is_bounded_beside_a_reader::<FreeAfterRcuGp>();
    is_bounded_beside_a_reader::<AfterTasksTraceGp>();
}

/// It also finishes the chains of the batches that it moves.
#[test]
fn nor_does_one_beyond_max_pending_although_finalizers_free() {
    is_bounded_with_hooks::<AfterRcuGp>(256 << 10, 8);
    is_bounded_with_hooks::<FreeAfterRcuGp>(256 << 10, 8);
    is_bounded_with_hooks::<AfterTasksTraceGp>(256 << 10, 8);
}

/// A CPU checks for readers seldom, as the check takes a barrier: what finalizers free has then not
/// passed, although no reader is inside.
#[test]
fn frees_beyond_max_pending_keep_it_from_growing_however_long_the_chains_are() {
    const LENGTH: usize = 50;
    for barrier in barriers() {
        let stall = Stall::<AfterRcuGp>::of(barrier, 300, LENGTH, 1 << 20);
        let _reader = IdleReader::of(&stall.domain);
        let before = stall.pending();
        assert!(before > (1 << 20) / 16, "it is beyond");
        for _ in 0..100 * BATCH {
            Owner::free(stall.cache, LENGTH);
        }
        let after = stall.pending();
        assert!(after <= before, "{after} are pending, {before} before 100 batches");
    }
}

/// What a free leaves of them is left neither by `quiesce` nor by `tend`.
#[test]
fn objects_beyond_the_work_of_a_call_are_finished_by_quiesce_and_tend() {
    for (barrier, few) in barriers().flat_map(|barrier| [1, 2, 5].map(|few| (barrier, few))) {
        let with = |end: &dyn Fn(&MemAlloc<AfterRcuGp>)| {
            let mut stall = Stall::<AfterRcuGp>::of(barrier, 200, few, u64::MAX);
            stall.work_off(few, BATCH);
            assert!(stall.pending() > 100 * BATCH, "much is left");
            end(stall.cache.mem_alloc());
            assert_eq!((stall.pending(), stall.cache.stats().live.objects), (0, 0));
        };
        with(&|alloc| _ = alloc.quiesce().expect("no guard is left"));
        // The values of a chain wait one after the other.
        with(&|alloc| (0..2 * few).for_each(|_| alloc.tend()));
    }
}

std::thread_local! {
    /// The allocator of the next test.
    static PAIRS: Cell<Option<&'static MemAlloc<AfterRcuGp>>> = const { Cell::new(None) };
}

/// Larger objects, which only finalizers free.
const OWNED: Layout = Layout::new::<[u64; 8]>();

/// Frees the object of another class that the first word of an object names, if it does.
unsafe fn free_owned(object: NonNull<u8>) {
    // SAFETY: the first word of each object of the test names an object or none.
    if let Some(owned) = unsafe { object.cast::<Option<NonNull<u8>>>().read() } {
        let alloc = PAIRS.get().expect("the test has set it");
        // SAFETY: allocated with this layout, and owned by one object.
        unsafe { alloc.free(owned, OWNED) };
    }
}

/// No free but those of finalizers is of their class.
#[test]
fn objects_that_only_finalizers_free_are_finished_by_frees_of_another_class() {
    let domain = patient(BarrierKind::best());
    // SAFETY: the first word of each object is written before it is freed.
    let builder = unsafe { builder::<AfterRcuGp>(&domain, u64::MAX).finalizer(free_owned) };
    let alloc = leak(builder.build().expect("an allocator"));
    PAIRS.set(Some(alloc));
    let new = |layout: Layout, owned: Option<NonNull<u8>>| {
        let object = alloc.alloc(layout).expect("memory").cast();
        // SAFETY: the object is ours, and large enough.
        unsafe { object.cast::<Option<NonNull<u8>>>().write(owned) };
        object
    };
    let free = |owned| {
        let owner = new(LAYOUT, owned);
        // SAFETY: allocated with this layout, and freed once.
        unsafe { alloc.free(owner, LAYOUT) };
    };
    let batches = 500;
    let guard = domain.pin();
    (0..batches * BATCH).for_each(|_| free(Some(new(OWNED, None))));
    drop(guard);
    let outside = || (alloc.stats().pending.objects + alloc.stats().live.objects) as usize;
    for _ in 0..batches {
        (0..BATCH).for_each(|_| free(None));
    }
    assert!(outside() < 10 * BATCH, "{} objects are left", outside());
    PAIRS.set(None);
}
