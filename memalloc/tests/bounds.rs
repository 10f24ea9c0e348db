//! Tests how much may be pending, which frees block beyond that, and how much a CPU holds.
#![cfg(not(loom))]

mod common;
#[path = "common/leak.rs"]
mod leak;

use common::{Object, Setup, adds_up, behind, cpus, in_every_setup, layout};
use leak::leak;
use memalloc::rcu::{Domain, FlavourKind, StallReport};
use memalloc::{
    AllocErrorKind, Builder, Class, ClassTable, KERNEL_SIZES, MemAlloc, ReusePolicy, Watermarks,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const KIB: u64 = 1 << 10;
const MAX_PENDING: u64 = 256 * KIB;
const SIZE: u64 = 1024;

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// Returns the builder of an allocator with `max_pending` [`MAX_PENDING`], its domain, and the
/// reports of the domain.
fn bounded<P: ReusePolicy>(
    setup: &Setup,
    stall_after: Duration,
) -> (Builder<P>, Domain, Receiver<StallReport>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let domain = Domain::builder().barrier_kind(setup.barrier).stall_after(stall_after);
    let domain = domain.stall_handler(move |report| {
        let _ = tell.lock().expect("never poisoned").send(*report);
    });
    let domain = domain.build().expect("a supported kind");
    let builder = setup.builder::<P>().domain(domain.clone()).max_pending(MAX_PENDING);
    (builder, domain, told)
}

/// Allocates an object and frees it deferred.
fn pass_one<P: ReusePolicy>(alloc: &MemAlloc<P>) {
    Object::new(alloc, layout(SIZE as usize, 1), 1).free_rcu(alloc);
}

in_every_setup! {
    /// A thread frees far more than may be pending while a reader stays inside. It gets as far as
    /// the bound and a batch more for each CPU, and blocks there. When the reader leaves, it
    /// continues.
    fn at_most_max_pending_and_a_batch_for_each_cpu_are_pending_behind_a_reader<P>(setup) {
        const OBJECTS: u64 = 4 * MAX_PENDING / SIZE;
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = &builder.build().expect("an allocator");
        let batch = Watermarks::for_size(SIZE as usize).deferred(SIZE as usize) as u64;
        let bound = MAX_PENDING + cpus() as u64 * batch * SIZE;
        let freed = &AtomicU64::new(0);
        thread::scope(|scope| {
            behind(|| domain.pin(), || {
                scope.spawn(move || {
                    for _ in 0..OBJECTS {
                        pass_one(alloc);
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                });
                // All freed bytes are pending: the reader was there before.
                let waiting = || freed.load(Ordering::Relaxed) * SIZE;
                while waiting() + batch * SIZE < MAX_PENDING {
                    thread::yield_now();
                }
                for _ in 0..300 {
                    assert!(waiting() <= bound, "{} bytes wait, {bound} allowed", waiting());
                    thread::yield_now();
                }
                let pending = alloc.stats().pending.bytes;
                assert!(pending <= bound, "{pending} bytes wait, {bound} allowed");
            });
        });
        assert_eq!(freed.load(Ordering::Relaxed), OBJECTS, "the free continues");
        assert!(told.try_recv().is_err(), "no reader stalled");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// It would wait for itself. The test hangs if it does.
    fn a_free_inside_a_section_never_blocks<P>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = builder.build().expect("an allocator");
        let free_too_much = || (0..2 * MAX_PENDING / SIZE).for_each(|_| pass_one(&alloc));
        let guard = domain.pin();
        free_too_much();
        assert!(alloc.stats().pending.bytes >= 2 * MAX_PENDING, "all of it waits");
        drop(guard);
        let guard = domain.pin_trace();
        free_too_much();
        drop(guard);
        assert!(told.try_recv().is_err(), "no reader stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// A blocked free drives grace periods for everything that is pending. That includes objects
    /// that other threads add meanwhile, which are inside sections, do not block, and then stay
    /// idle. The test hangs if it does not.
    fn a_blocked_free_continues_although_idle_threads_have_added_more<ProtectsIdentity>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = &builder.build().expect("an allocator");
        let batch = Watermarks::for_size(SIZE as usize).deferred(SIZE as usize) as u64;
        let freed = &AtomicU64::new(0);
        let (leave, left) = channel::<()>();
        thread::scope(|scope| {
            let (tell_inside, inside) = channel();
            let domain = &domain;
            scope.spawn(move || {
                let guard = domain.pin();
                tell_inside.send(()).expect("it is waited for");
                while freed.load(Ordering::Relaxed) < MAX_PENDING / SIZE / 2 {
                    thread::yield_now();
                }
                (0..2 * MAX_PENDING / SIZE).for_each(|_| pass_one(alloc));
                drop(guard);
                let _ = left.recv();
            });
            inside.recv().expect("it goes inside");
            for _ in 0..4 * MAX_PENDING / SIZE {
                pass_one(alloc);
                freed.fetch_add(1, Ordering::Relaxed);
            }
            let most = MAX_PENDING + cpus() as u64 * batch * SIZE;
            let pending = alloc.stats().pending.bytes;
            assert!(pending <= most, "{pending} bytes wait, {most} allowed");
            drop(leave);
        });
        assert!(told.try_recv().is_err(), "no reader stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Objects that a thread has freed inside a section, where it does not block, are reclaimed by
    /// the next thread that frees.
    fn a_free_reclaims_what_an_idle_thread_left_pending<ProtectsIdentity>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = &builder.build().expect("an allocator");
        let batch = Watermarks::for_size(SIZE as usize).deferred(SIZE as usize) as u64;
        let defer = || {
            let _guard = domain.pin();
            (0..2 * MAX_PENDING / SIZE).for_each(|_| pass_one(alloc));
        };
        let left_pending = || alloc.stats().pending.bytes;
        thread::scope(|scope| {
            scope.spawn(defer).join().expect("it does not panic");
            assert!(left_pending() >= 2 * MAX_PENDING, "it could not wait");
            (0..2 * batch).for_each(|_| pass_one(alloc));
            let (most, pending) = (MAX_PENDING + cpus() as u64 * batch * SIZE, left_pending());
            assert!(pending <= most, "{pending} bytes wait, {most} allowed");
        });
        assert!(told.try_recv().is_err(), "no reader stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

/// Frees far more objects than may be pending, each inside two nested sections, while a reader of
/// `sit` stays inside. Returns how much is pending when the thread no longer makes progress.
fn pending_of_one_who_frees_inside<P: ReusePolicy, S, G>(
    alloc: &MemAlloc<P>,
    sit: impl FnOnce() -> S + Send,
    enter: impl Fn() -> G + Sync,
) -> u64 {
    const OBJECTS: u64 = 4 * MAX_PENDING / SIZE;
    let freed = &AtomicU64::new(0);
    let pending = thread::scope(|scope| {
        behind(sit, || {
            scope.spawn(|| {
                for _ in 0..OBJECTS {
                    let (outer, inner) = (enter(), enter());
                    pass_one(alloc);
                    drop((outer, inner));
                    freed.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Until the thread waits, or would never wait.
            let (mut seen, mut unchanged) = (0, 0);
            while unchanged < 2_000 && seen < OBJECTS {
                thread::yield_now();
                let now = freed.load(Ordering::Relaxed);
                unchanged = if now == seen { unchanged + 1 } else { 0 };
                seen = now;
            }
            alloc.stats().pending.bytes
        })
    });
    assert_eq!(freed.load(Ordering::Relaxed), OBJECTS, "it continues when the reader has left");
    pending
}

in_every_setup! {
    /// The bound holds for writers together, behind a reader that may sleep, for all memory that
    /// the allocator holds.
    fn two_writers_behind_a_sleeper_hold_little_more_than_may_be_pending<AfterTasksTraceGp>(setup) {
        const MOST: u64 = 4 << 20;
        for size in [64, 256, 4096] {
            let (builder, domain, _told) = bounded::<P>(setup, NEVER);
            let alloc = &builder.max_pending(MOST).build().expect("an allocator");
            let freed = &AtomicU64::new(0);
            thread::scope(|scope| {
                behind(|| domain.pin_trace(), || {
                    for _ in 0..2 {
                        scope.spawn(move || {
                            for _ in 0..MOST / size {
                                Object::new(alloc, layout(size as usize, 1), 1).free_rcu(alloc);
                                freed.fetch_add(size, Ordering::Relaxed);
                            }
                        });
                    }
                    // Until both wait, or would never wait.
                    let (mut seen, mut unchanged) = (0, 0);
                    while unchanged < 2_000 && seen < 2 * MOST {
                        thread::yield_now();
                        let now = freed.load(Ordering::Relaxed);
                        unchanged = if now == seen { unchanged + 1 } else { 0 };
                        seen = now;
                    }
                    let (held, bound) = (alloc.backing_bytes(), MOST + cpus() as u64 * (1 << 20));
                    assert!(held <= bound, "{held} bytes of {size} each are held, {bound} allowed");
                });
            });
            adds_up(&alloc.stats(), 0);
        }
    }
}

/// Returns the most bytes that may be pending behind a reader: the bound, and a batch for each CPU.
fn most_pending() -> u64 {
    let batch = Watermarks::for_size(SIZE as usize).deferred(SIZE as usize) as u64;
    MAX_PENDING + cpus() as u64 * batch * SIZE
}

in_every_setup! {
    /// It cannot block there, and blocks when its outermost section has ended.
    fn a_thread_that_frees_inside_sections_stays_within_the_bound<P>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = builder.build().expect("an allocator");
        let pending = pending_of_one_who_frees_inside(&alloc, || domain.pin(), || domain.pin());
        assert!(pending <= most_pending(), "{pending} bytes wait, {} allowed", most_pending());
        assert!(told.try_recv().is_err(), "no reader stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// As above, in sections that may sleep, for each combination of slots.
    fn a_thread_that_frees_inside_sleepable_sections_stays_within_the_bound<AfterTasksTraceGp>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = builder.build().expect("an allocator");
        let enter = || domain.pin_trace();
        for pending in [
            pending_of_one_who_frees_inside(&alloc, || domain.pin(), enter),
            pending_of_one_who_frees_inside(&alloc, enter, enter),
            pending_of_one_who_frees_inside(&alloc, enter, || domain.pin()),
        ] {
            assert!(pending <= most_pending(), "{pending} bytes wait, {} allowed", most_pending());
        }
        assert!(told.try_recv().is_err(), "no reader stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// The drop of a guard does not block while its thread unwinds, nor on a thread that the guard
    /// was moved to. The next section of the thread that freed blocks. The test hangs if one of the
    /// first two blocks.
    fn dropping_a_guard_does_not_block_while_unwinding_or_on_another_thread<AfterTasksTraceGp>(setup) {
        let (builder, domain, _told) = bounded::<P>(setup, NEVER);
        let alloc = &builder.build().expect("an allocator");
        let free_too_much = || (0..2 * MAX_PENDING / SIZE).for_each(|_| pass_one(alloc));
        let (domain, paid) = (&domain, &AtomicU64::new(0));
        thread::scope(|scope| {
            behind(|| domain.pin_trace(), || {
                let unwinds = scope.spawn(|| {
                    let _guard = domain.pin();
                    free_too_much();
                    std::panic::resume_unwind(Box::new("a test"));
                });
                unwinds.join().expect_err("it unwinds");
                let (hand_over, handed) = channel();
                let (stay, leave) = channel::<()>();
                scope.spawn(move || {
                    let guard = domain.pin_trace();
                    free_too_much();
                    hand_over.send(guard).expect("a receiver");
                    let _ = leave.recv();
                    drop(domain.pin_trace());
                    paid.fetch_add(1, Ordering::Relaxed);
                });
                drop(handed.recv().expect("a guard"));
                drop(stay);
                (0..300).for_each(|_| thread::yield_now());
                assert_eq!(paid.load(Ordering::Relaxed), 0, "its next section waits");
            });
        });
        assert_eq!(paid.load(Ordering::Relaxed), 1);
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Frees continue behind a stalled reader, at a rate bound to the stall length.
    fn behind_a_stall_a_sixteenth_of_the_bound_is_added_for_each_stall_after<P>(setup) {
        const STALL: Duration = Duration::from_millis(2);
        const MOST: u64 = 4 * MAX_PENDING;
        for inside in [false, true] {
            let (builder, domain, told) = bounded::<P>(setup, STALL);
            let alloc = builder.max_pending(MOST).build().expect("an allocator");
            behind(|| domain.pin(), || {
                let start = Instant::now();
                for _ in 0..2 * MOST / SIZE {
                    let guard = inside.then(|| domain.pin());
                    pass_one(&alloc);
                    drop(guard);
                }
                let beside = most_pending() - MAX_PENDING;
                let beyond = alloc.stats().pending.bytes.saturating_sub(MOST + beside);
                let least = STALL * (beyond / (MOST / 16)) as u32;
                assert!(start.elapsed() >= least, "{beyond} bytes beyond, {:?}", start.elapsed());
                assert!(beyond > 0, "frees continued");
            });
            assert!(told.try_recv().is_ok(), "a report");
            assert!(told.try_recv().is_err(), "reported once");
        }
    }
}

/// A value of [`SIZE`] bytes, whose drop may run a closure.
struct Value {
    then: Option<Box<dyn FnOnce() + Send + Sync>>,
    _room: [u64; SIZE as usize / 8 - 2],
}

impl Drop for Value {
    fn drop(&mut self) {
        self.then.take().into_iter().for_each(|then| then());
    }
}

in_every_setup! {
    /// A thread that moves far more than may be pending drops a value that frees others. The
    /// batches that the thread holds do not wait for readers, and it would wait for itself. (A
    /// signal handler that frees may interrupt the same code.)
    fn a_free_does_not_wait_for_batches_that_its_own_thread_holds<ProtectsIdentity>(setup) {
        let (_, domain, _told) = bounded::<P>(setup, NEVER);
        let builder = setup.cache_builder::<Value, P>().domain(domain.clone());
        let cache = leak(builder.max_pending(MAX_PENDING).build().expect("a cache"));
        let batch = Watermarks::for_size(SIZE as usize).deferred(SIZE as usize) as u64;
        let free = move |then: Option<Box<dyn FnOnce() + Send + Sync>>| {
            let Ok(value) = cache.alloc(Value { then, _room: [0; _] }) else { panic!("memory") };
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value.into_raw()) };
        };
        let (tell, told) = channel();
        thread::spawn(move || {
            let guard = domain.pin();
            (0..2 * MAX_PENDING / SIZE).for_each(|_| free(None));
            free(Some(Box::new(move || (0..2 * batch).for_each(|_| free(None)))));
            (0..2 * batch).for_each(|_| free(None));
            drop(guard);
            cache.trim();
            tell.send(()).expect("a receiver");
        });
        told.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
        cache.quiesce().expect("no guard is held");
        adds_up(&cache.stats(), 0);
    }
}

in_every_setup! {
    /// Sleepable readers are not waited for under this policy, so a guard of theirs does not keep
    /// the free from blocking.
    fn a_free_inside_a_sleepable_section_waits_for_rcu_readers<AfterRcuGp>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, Duration::from_millis(1));
        let alloc = builder.build().expect("an allocator");
        let sleeper = domain.pin_trace();
        behind(|| domain.pin(), || {
            (0..3 * MAX_PENDING / SIZE).for_each(|_| pass_one(&alloc));
        });
        drop(sleeper);
        let report = told.try_recv().expect("it has blocked and reported the reader");
        assert_eq!(report.flavour, FlavourKind::Rcu);
    }
}

/// Frees too much behind a reader of `flavour`, three times.
fn reports_each_stall_once<P: ReusePolicy, G>(
    setup: &Setup,
    flavour: FlavourKind,
    enter: impl Fn(&'static Domain) -> G + Sync,
) {
    let (builder, domain, told) = bounded::<P>(setup, Duration::from_millis(1));
    let alloc = builder.build().expect("an allocator");
    let domain = leak(domain);
    for _ in 0..3 {
        behind(
            || enter(domain),
            || {
                (0..3 * MAX_PENDING / SIZE).for_each(|_| pass_one(&alloc));
                assert!(alloc.stats().pending.bytes >= 3 * MAX_PENDING, "frees continued");
            },
        );
        let report = told.try_recv().expect("a report");
        assert_eq!(report.flavour, flavour);
        assert!(report.reader.thread != 0, "{report}");
        assert!(report.reader.inside_for >= Duration::from_millis(1), "{report}");
        assert!(told.try_recv().is_err(), "reported once");
        alloc.quiesce().expect("no guard is held");
    }
    adds_up(&alloc.stats(), 0);
}

in_every_setup! {
    /// Behind each stalled reader a free blocks once, reports once, and continues.
    fn a_stall_is_reported_once_for_each_reader_and_frees_go_on<P>(setup) {
        reports_each_stall_once::<P, _>(setup, FlavourKind::Rcu, Domain::pin);
    }
}

in_every_setup! {
    /// The RCU grace periods continue meanwhile, and cause no further blocking.
    fn a_stall_behind_a_sleeper_is_reported_once_and_frees_go_on<AfterTasksTraceGp>(setup) {
        reports_each_stall_once::<P, _>(setup, FlavourKind::TasksTrace, Domain::pin_trace);
    }
}

in_every_setup! {
    /// Pending memory is held memory: the limit counts it, and an allocation beyond it fails.
    fn the_limit_holds_while_a_reader_sits<P>(setup) {
        const LIMIT: u64 = 2 * MAX_PENDING;
        let (builder, domain, _told) = bounded::<P>(setup, Duration::from_millis(1));
        let alloc = builder.limit_bytes(LIMIT).build().expect("an allocator");
        let layout = layout(SIZE as usize, 1);
        behind(|| domain.pin(), || {
            let mut freed = 0;
            let error = loop {
                match alloc.alloc(layout) {
                    Ok(memory) => Object::filled(memory.cast(), layout, 1).free_rcu(&alloc),
                    Err(error) => break error.kind(),
                }
                assert!(alloc.backing_bytes() <= LIMIT);
                freed += SIZE;
                assert!(freed <= LIMIT, "more than there is");
            };
            assert_eq!(error, AllocErrorKind::LimitReached { limit: LIMIT });
        });
        domain.synchronize().expect("no guard is held");
        Object::new(&alloc, layout, 2).free_rcu(&alloc);
        adds_up(&alloc.stats(), 0);
    }
}

/// Returns the bytes that a CPU's caches may hold, of all classes.
fn full_bytes(classes: &ClassTable) -> u64 {
    let bytes = |class: &Class| (class.watermarks.high + class.watermarks.reserve) * class.size;
    classes.classes().iter().map(bytes).sum::<usize>() as u64
}

/// Frees more of every class than this CPU's caches may hold. Returns the bytes that they hold
/// then.
fn cached_when_full<P: ReusePolicy>(alloc: &MemAlloc<P>) -> u64 {
    for class in alloc.classes().classes() {
        let held: Vec<_> = (0..500).map(|_| Object::new(alloc, layout(class.size, 1), 1)).collect();
        held.into_iter().for_each(|object| object.free_unshared(alloc));
    }
    // Objects that no CPU holds go back to the slabs.
    alloc.trim();
    let stats = alloc.stats();
    adds_up(&stats, 0);
    stats.cached.bytes
}

in_every_setup! {
    fn an_idle_allocator_holds_no_objects<P>(setup) {
        let alloc = setup.allocator::<P>();
        assert_eq!((alloc.backing_bytes(), alloc.stats().taken.objects), (0, 0), "at first");
        cached_when_full(&alloc);
        alloc.quiesce().expect("no guard is held");
        assert_eq!((alloc.backing_bytes(), alloc.stats().taken.objects), (0, 0), "after use");
    }
}

in_every_setup! {
    /// The default table, and the same without a reserve. The thread may have run on each CPU.
    fn full_caches_hold_what_is_documented_for_each_cpu<P>(setup) {
        let kernel = KERNEL_SIZES.map(|size| {
            Class { size, watermarks: Watermarks { reserve: 0, ..Watermarks::for_size(size) } }
        });
        let kernel = ClassTable::with_watermarks(&kernel).expect("a table");
        for (table, documented) in [(ClassTable::default(), 873 * KIB), (kernel, 170 * KIB)] {
            let allowed = full_bytes(&table);
            assert_eq!(allowed.div_ceil(KIB), documented / KIB, "the sum of the watermarks");
            let alloc = setup.builder::<P>().classes(table).build().expect("an allocator");
            let cached = cached_when_full(&alloc);
            assert!(cached <= cpus() as u64 * allowed, "{cached} bytes on {} CPUs", cpus());
            assert!(cached >= allowed / 2, "{cached} bytes of {allowed}: they are not full");
        }
    }
}

in_every_setup! {
    /// There are batches for all of them, however small the range is.
    fn the_smallest_objects_of_a_small_range_stay_within_the_bound<P>(setup) {
        const SMALL: u64 = 16;
        let (builder, _domain, _told) = bounded::<P>(setup, NEVER);
        let alloc = builder.range_bytes(1).build().expect("an allocator");
        let smallest = layout(SMALL as usize, 1);
        let batch = Watermarks::for_size(SMALL as usize).deferred(SMALL as usize) as u64;
        let most = MAX_PENDING + cpus() as u64 * batch * SMALL;
        // Half of the range stays in use.
        let held: Vec<_> = (0..8 << 20 >> 4).map(|_| Object::new(&alloc, smallest, 1)).collect();
        for _ in 0..20 {
            (0..10_000).for_each(|_| Object::new(&alloc, smallest, 2).free_rcu(&alloc));
            let pending = alloc.stats().pending.bytes;
            assert!(pending <= most, "{pending} bytes wait, {most} allowed");
        }
        held.into_iter().for_each(|object| object.free_rcu(&alloc));
        let pending = alloc.stats().pending.bytes;
        assert!(pending <= most, "{pending} bytes wait, {most} allowed");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}
