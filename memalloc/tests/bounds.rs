//! How much may wait for a grace period, who waits when it is too much, and what a CPU holds.
#![cfg(not(loom))]

mod common;

use common::{Object, Setup, adds_up, behind, cpus, in_every_setup, layout};
use memalloc::rcu::{Domain, FlavourKind, StallReport};
use memalloc::{
    AllocErrorKind, Builder, Cache, Class, ClassTable, KERNEL_SIZES, MemAlloc, ReusePolicy,
    Watermarks,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const KIB: u64 = 1 << 10;
const MAX_PENDING: u64 = 256 * KIB;
const SIZE: u64 = 1024;

/// So long that no test sees it.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// An allocator that lets [`MAX_PENDING`] bytes wait, and the reports of its domain.
fn bounded<P: ReusePolicy>(
    setup: &Setup,
    stall_after: Duration,
) -> (Builder<P>, Domain, Receiver<StallReport>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let domain = Domain::builder().barrier(setup.barrier).stall_after(stall_after);
    let domain = domain.stall_handler(move |report| {
        let _ = tell.lock().expect("never poisoned").send(*report);
    });
    let domain = domain.build().expect("a supported kind");
    let builder = setup.builder::<P>().domain(domain.clone()).max_pending(MAX_PENDING);
    (builder, domain, told)
}

/// Allocates and frees an object, deferred.
fn pass_one<P: ReusePolicy>(alloc: &MemAlloc<P>) {
    Object::new(alloc, layout(SIZE as usize, 1), 1).free_rcu(alloc);
}

in_every_setup! {
    /// A thread frees far more than may wait while a reader sits. It gets as far as the bound, a
    /// batch more for each CPU, and there it stays; when the reader leaves, it goes on.
    fn no_more_than_max_pending_and_a_batch_for_each_cpu_waits_behind_a_reader<P>(setup) {
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
                // As many bytes as have been freed wait: the reader was there before.
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
        assert_eq!(freed.load(Ordering::Relaxed), OBJECTS, "the free goes on");
        assert!(told.try_recv().is_err(), "nobody stalled");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// It would wait for itself. The test hangs where it does.
    fn a_thread_inside_its_own_section_never_waits<P>(setup) {
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
        assert!(told.try_recv().is_err(), "nobody stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Who waits moves grace periods along for whatever is pending: also for what others add while
    /// he waits, who are inside sections and don't wait, and then stay idle. The test hangs where he
    /// does not.
    fn who_waits_goes_on_although_others_added_more_and_are_idle<ProtectsIdentity>(setup) {
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
        assert!(told.try_recv().is_err(), "nobody stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// What a thread has freed inside a section, where it does not wait, and left behind, is brought
    /// along by whoever frees next.
    fn who_frees_brings_along_what_an_idle_thread_left<ProtectsIdentity>(setup) {
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
        assert!(told.try_recv().is_err(), "nobody stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

/// Frees objects each in two sections of its own, one inside the other, while a reader of `sit` stays;
/// far more than may wait. Says how much is pending when the thread does not go on.
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
            while freed.load(Ordering::Relaxed) * SIZE + 128 * KIB < MAX_PENDING {
                thread::yield_now();
            }
            (0..300).for_each(|_| thread::yield_now());
            alloc.stats().pending.bytes
        })
    });
    assert_eq!(freed.load(Ordering::Relaxed), OBJECTS, "it goes on when the reader has left");
    pending
}

/// What may be pending behind a reader: a batch beside the bound for each CPU.
fn most_pending() -> u64 {
    let batch = Watermarks::for_size(SIZE as usize).deferred(SIZE as usize) as u64;
    MAX_PENDING + cpus() as u64 * batch * SIZE
}

in_every_setup! {
    /// It can't wait there, and waits when the outermost of its sections has ended.
    fn who_frees_inside_its_sections_stays_within_the_bound<P>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, NEVER);
        let alloc = builder.build().expect("an allocator");
        let pending = pending_of_one_who_frees_inside(&alloc, || domain.pin(), || domain.pin());
        assert!(pending <= most_pending(), "{pending} bytes wait, {} allowed", most_pending());
        assert!(told.try_recv().is_err(), "nobody stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// The same in sections that may sleep, whichever slot they are in.
    fn who_frees_inside_sections_that_may_sleep_stays_within_the_bound<AfterTasksTraceGp>(setup) {
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
        assert!(told.try_recv().is_err(), "nobody stalled");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// A guard that goes while its thread unwinds does not hold that up, nor one that moved its thread.
    /// The next section of the thread waits. The test hangs where one of the first two does.
    fn who_unwinds_or_was_handed_a_guard_does_not_wait_for_what_was_freed_in_it<AfterTasksTraceGp>(setup) {
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
                    hand_over.send(guard).expect("somebody takes it");
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
    /// Frees go on behind a reader that stalls, at the pace of stalls.
    fn behind_a_stall_a_sixteenth_of_the_bound_is_added_for_each_length_of_one<P>(setup) {
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
                assert!(beyond > 0, "frees went on");
            });
            assert!(told.try_recv().is_ok(), "a report");
            assert!(told.try_recv().is_err(), "said once");
        }
    }
}

/// A value of [`SIZE`] bytes, whose drop may do something.
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
    /// Somebody who is putting away far more than may wait drops a value that frees others: what is
    /// in his own hands does not wait for readers, and he would wait for himself. (A signal handler
    /// that frees may interrupt the same.)
    fn a_free_does_not_wait_for_what_its_own_thread_has_in_hand<ProtectsIdentity>(setup) {
        let (_, domain, _told) = bounded::<P>(setup, NEVER);
        let builder = setup.cache_builder::<Value, P>().domain(domain.clone());
        let cache = builder.max_pending(MAX_PENDING).build().expect("a cache");
        let cache: &'static Cache<Value, P> = Box::leak(Box::new(cache));
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
            tell.send(()).expect("somebody waits for it");
        });
        told.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
        cache.quiesce().expect("no guard is held");
        adds_up(&cache.stats(), 0);
    }
}

in_every_setup! {
    /// Readers that may sleep are not waited for here, so a guard of theirs is not in the way.
    fn a_sleeper_waits_for_readers_of_the_other_flavour<AfterRcuGp>(setup) {
        let (builder, domain, told) = bounded::<P>(setup, Duration::from_millis(1));
        let alloc = builder.build().expect("an allocator");
        let sleeper = domain.pin_trace();
        behind(|| domain.pin(), || {
            (0..3 * MAX_PENDING / SIZE).for_each(|_| pass_one(&alloc));
        });
        drop(sleeper);
        let report = told.try_recv().expect("it has waited, and says for whom");
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
    let domain: &'static Domain = Box::leak(Box::new(domain));
    for _ in 0..3 {
        behind(
            || enter(domain),
            || {
                (0..3 * MAX_PENDING / SIZE).for_each(|_| pass_one(&alloc));
                assert!(alloc.stats().pending.bytes >= 3 * MAX_PENDING, "frees went on");
            },
        );
        let report = told.try_recv().expect("a report");
        assert_eq!(report.flavour, flavour);
        assert!(report.reader.thread != 0, "{report}");
        assert!(report.reader.inside_for >= Duration::from_millis(1), "{report}");
        assert!(told.try_recv().is_err(), "said once");
        alloc.quiesce().expect("no guard is held");
    }
    adds_up(&alloc.stats(), 0);
}

in_every_setup! {
    /// Behind each reader that stalls a free waits once, says so once, and goes on.
    fn a_stall_is_reported_once_for_each_reader_and_frees_go_on<P>(setup) {
        reports_each_stall_once::<P, _>(setup, FlavourKind::Rcu, Domain::pin);
    }
}

in_every_setup! {
    /// The grace periods of RCU go on meanwhile, and are no reason to wait again.
    fn a_stall_behind_a_sleeper_is_reported_once_and_frees_go_on<AfterTasksTraceGp>(setup) {
        reports_each_stall_once::<P, _>(setup, FlavourKind::TasksTrace, Domain::pin_trace);
    }
}

in_every_setup! {
    /// What waits is memory that is held: the limit counts it, and says so when that is all.
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

/// What a CPU's caches may hold of all classes, in bytes.
fn full_bytes(classes: &ClassTable) -> u64 {
    let bytes = |class: &Class| (class.watermarks.high + class.watermarks.reserve) * class.size;
    classes.classes().iter().map(bytes).sum::<usize>() as u64
}

/// Frees more of every class than this CPU's caches may hold, and says what they hold then.
fn cached_when_full<P: ReusePolicy>(alloc: &MemAlloc<P>) -> u64 {
    for class in alloc.classes().classes() {
        let held: Vec<_> = (0..500).map(|_| Object::new(alloc, layout(class.size, 1), 1)).collect();
        held.into_iter().for_each(|object| object.free_unshared(alloc));
    }
    // What no CPU holds goes back to the slabs.
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
    /// The default table, and the same without a reserve. The thread may have been on each CPU.
    fn full_caches_hold_what_is_documented_for_each_cpu<P>(setup) {
        let kernel = KERNEL_SIZES.map(|size| {
            Class { size, watermarks: Watermarks { reserve: 0, ..Watermarks::for_size(size) } }
        });
        let kernel = ClassTable::with_watermarks(&kernel).expect("a table");
        for (table, documented) in [(ClassTable::default(), 837 * KIB), (kernel, 170 * KIB)] {
            let allowed = full_bytes(&table);
            assert_eq!(allowed.div_ceil(KIB), documented / KIB, "what the marks say");
            let alloc = setup.builder::<P>().classes(table).build().expect("an allocator");
            let cached = cached_when_full(&alloc);
            assert!(cached <= cpus() as u64 * allowed, "{cached} bytes on {} CPUs", cpus());
            assert!(cached >= allowed / 2, "{cached} bytes of {allowed}: they are not full");
        }
    }
}
