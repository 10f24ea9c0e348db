//! Complaints of users about crates of this kind, with a test for each. The complaints about
//! ordered maps are tested in `qptrie`.
#![cfg(not(loom))]

mod common;

use common::{Announce, Object, Setup, adds_up, behind, held_bytes, in_every_setup, layout};
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{BarrierKind, Domain, Flavour, GracePeriods, SynchronizeError, drop_box};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, AllocErrorKind, CpuMode, MemAlloc};
use std::pin::pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A value of about 1 KiB that counts its drop.
struct Counted(Arc<AtomicUsize>, [u8; 1000]);

impl Counted {
    fn new(drops: &Arc<AtomicUsize>) -> Self {
        Self(drops.clone(), [7; 1000])
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.1.iter().all(|byte| *byte == 7), "dropped when it was something else");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

in_every_setup! {
    /// Complaint 1: Destructors that run late or never. Without any flush, continued work drops all
    /// but the last few MiB; the rest is dropped by `quiesce`, or at the end.
    fn values_are_dropped_while_work_goes_on<ProtectsIdentity>(setup) {
        let drops = Arc::new(AtomicUsize::new(0));
        let cache = setup.cache_builder::<Counted, P>().build().expect("a cache");
        let free_one = || {
            let Ok(value) = cache.alloc(Counted::new(&drops)) else { panic!("memory") };
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value.into_raw()) };
        };
        for freed in 1..=12_000 {
            free_one();
            let late = freed - drops.load(Ordering::Relaxed);
            assert!(late < 4_000, "{late} of {freed} values are late");
        }
        cache.quiesce().expect("no guard is held");
        assert_eq!(drops.load(Ordering::Relaxed), 12_000, "quiesce leaves none");
        free_one();
        drop(cache);
        assert_eq!(drops.load(Ordering::Relaxed), 12_001, "the end leaves none");
    }
}

/// Queues callbacks of both kinds, and checks how far those that have run lag behind.
fn callbacks_keep_up<F: Flavour>(flavour: &GracePeriods<F>) {
    let ran = Arc::new(AtomicUsize::new(0));
    for queued in 1..=1_000 {
        if queued % 2 == 0 {
            let ran = ran.clone();
            flavour.call(move || _ = ran.fetch_add(1, Ordering::Relaxed));
        } else {
            let value = NonNull::from(Box::leak(Box::new(Counted::new(&ran))));
            // SAFETY: it came from a box, and no other thread knows it.
            unsafe { flavour.retire(value.cast(), drop_box::<Counted>) };
        }
        let late = queued - ran.load(Ordering::Relaxed);
        assert!(late < 200, "{late} of {queued} callbacks are late");
    }
    flavour.barrier().expect("no guard is held");
    assert_eq!(ran.load(Ordering::Relaxed), 1_000, "barrier leaves none");
}

in_every_setup! {
    /// Complaint 1: Destructors that run late or never. As above, for callbacks and retired
    /// objects.
    fn callbacks_run_while_others_are_queued(setup) {
        let domain = setup.domain();
        callbacks_keep_up(domain.rcu());
        callbacks_keep_up(domain.trace());
    }
}

in_every_setup! {
    /// Complaint 2: A flush that needs a second flush, or enough objects, or enough threads. One
    /// call is enough, for any number of objects of one thread.
    fn one_quiesce_is_enough_for_any_number_of_objects<P>(setup) {
        let alloc = setup.allocator::<P>();
        // None, about the kernel's batch (48), about the most that moves at once (250), and many.
        for count in [0, 1, 2, 47, 48, 49, 249, 250, 251, 3_000] {
            let held: Vec<_> = (0..count).map(|_| Object::new(&alloc, layout(256, 1), 1)).collect();
            held.into_iter().for_each(|object| object.free_rcu(&alloc));
            alloc.quiesce().expect("no guard is held");
            let stats = alloc.stats();
            assert_eq!((stats.taken.objects, held_bytes(&stats)), (0, 0), "after {count} objects");
            let again = alloc.quiesce().expect("no guard is held");
            assert_eq!(again, Default::default(), "one call was enough for {count} objects");
        }
    }
}

in_every_setup! {
    /// Complaint 2: A flush that needs a second flush, or enough objects. One barrier is enough for
    /// one callback.
    fn one_barrier_is_enough_for_one_callback(setup) {
        let domain = setup.domain();
        let ran = Arc::new(AtomicUsize::new(0));
        let (first, second) = (ran.clone(), ran.clone());
        domain.rcu().call(move || _ = first.fetch_add(1, Ordering::Relaxed));
        domain.rcu().barrier().expect("no guard is held");
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        domain.trace().call(move || _ = second.fetch_add(1, Ordering::Relaxed));
        domain.trace().barrier().expect("no guard is held");
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    }
}

in_every_setup! {
    /// Complaint 3: Memory without bound behind one stalled reader. A free blocks, then reports the
    /// reader in the way, and the limit of the allocator holds in any case.
    fn memory_behind_a_stalled_reader_is_bounded_and_the_reader_is_named<ProtectsIdentity>(setup) {
        let (tell, told) = channel();
        let tell = std::sync::Mutex::new(tell);
        let handler = move |report: &memalloc::rcu::StallReport| {
            let name = report.reader.thread_name();
            let _ = tell.lock().expect("never poisoned").send((name, report.to_string()));
        };
        let domain = Domain::builder().barrier_kind(setup.barrier).stall_after(Duration::from_millis(2));
        let domain = domain.stall_handler(handler).build().expect("a supported kind");
        let builder = setup.builder::<P>().domain(domain.clone());
        let alloc = builder.max_pending(MIB).limit_bytes(2 * MIB).build().expect("an allocator");
        let refused = behind(|| domain.pin(), || {
            for _ in 0..10 * MIB / 1024 {
                match alloc.alloc(layout(1024, 1)) {
                    Ok(memory) => Object::filled(memory.cast(), layout(1024, 1), 1).free(&alloc),
                    Err(error) => return Some(error.kind()),
                }
                assert!(alloc.backing_bytes() <= 2 * MIB);
            }
            None
        });
        assert_eq!(refused, Some(AllocErrorKind::LimitReached { limit: 2 * MIB }));
        let (name, text) = told.try_recv().expect("the stall is reported before memory runs out");
        if cfg!(target_os = "linux") {
            assert_eq!(name.as_deref(), Some("sitter"), "{text}");
            assert!(text.contains("(sitter)") && !text.contains('\n'), "{text}");
        }
        domain.synchronize().expect("no guard is held");
        Object::new(&alloc, layout(1024, 1), 2).free(&alloc);
    }
}

in_every_setup! {
    /// Complaint 3: Memory without bound behind one stalled reader. With immediate reuse, the
    /// reader costs nothing.
    fn immediate_reuse_stays_tiny_behind_a_stalled_reader<Immediate>(setup) {
        let alloc = setup.allocator::<P>();
        behind(|| alloc.domain().pin(), || {
            for _ in 0..20_000 {
                Object::new(&alloc, layout(4096, 1), 1).free(&alloc);
            }
            assert!(alloc.backing_bytes() <= MIB, "{} bytes", alloc.backing_bytes());
        });
    }
}

in_every_setup! {
    /// Complaint 4: Sharing a domain frees too early when one owner goes. Objects that wait for a
    /// reader of the domain keep waiting when another allocator, with pending objects of its own,
    /// has ended.
    fn the_end_of_one_allocator_frees_nothing_of_another<ProtectsIdentity>(setup) {
        let domain = setup.domain();
        let (ends, stays) = (setup.allocator_in::<P>(&domain), setup.allocator_in::<P>(&domain));
        let layout = layout(512, 1);
        let guard = domain.pin();
        let found: Vec<_> = (0..100).map(|_| Object::new(&stays, layout, 0x5a)).collect();
        let places: Vec<_> = found.iter().map(|object| object.place).collect();
        found.into_iter().for_each(|object| object.free(&stays));
        (0..100).for_each(|_| Object::new(&ends, layout, 1).free(&ends));
        drop(ends);
        for round in 0..300 {
            domain.run_callbacks();
            let other = Object::new(&stays, layout, round as u8);
            assert!(!places.contains(&other.place), "reused under a reader");
            other.free(&stays);
        }
        for place in places {
            Object::seen_before(place, layout, 0x5a).check();
        }
        drop(guard);
        stays.destroy().expect("nothing leaked");
    }
}

in_every_setup! {
    /// Complaint 4: Sharing a domain holds everything. Objects pending when an allocator ends
    /// inside a section are released with that section, however many others keep the domain alive
    /// and in use.
    fn an_allocator_that_ended_holds_nothing_while_its_domain_lives<ProtectsIdentity>(setup) {
        let drops = Arc::new(AtomicUsize::new(0));
        let domain = setup.domain();
        let others = setup.allocator_in::<P>(&domain);
        let kept = Object::new(&others, layout(64, 1), 1);
        let backing = Arc::new(FailOnDemand::new(System));
        let builder = setup.cache_builder::<Counted, P>().domain(domain.clone());
        let builder = builder.range_bytes(16 * MIB).backing(Arc::clone(&backing));
        let cache = builder.build().expect("a cache");
        let guard = domain.pin();
        for _ in 0..300 {
            let Ok(value) = cache.alloc(Counted::new(&drops)) else { panic!("memory") };
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value.into_raw()) };
        }
        drop(cache);
        assert_eq!(drops.load(Ordering::Relaxed), 0, "dropped under a reader");
        drop(guard);
        domain.barrier().expect("no guard is held");
        domain.trace().barrier().expect("no guard is held");
        assert_eq!(drops.load(Ordering::Relaxed), 300);
        assert_eq!(Arc::strong_count(&backing), 1, "its memory is gone as well");
        kept.free(&others);
    }
}

in_every_setup! {
    /// Complaint 5: Storage that is freed where it could be reused. The hundredth cycle takes no
    /// more than the first, also beside a thread that may read, for which deferred objects have to
    /// wait.
    fn storage_stays_flat_over_many_cycles<P>(setup) {
        let alloc = setup.allocator::<P>();
        let cycles = || {
            let mut most = 0;
            for _ in 0..100 {
                let held: Vec<_> =
                    (0..600).map(|_| Object::new(&alloc, layout(512, 1), 1)).collect();
                held.into_iter().for_each(|object| object.free(&alloc));
                most = most.max(alloc.backing_bytes());
            }
            most
        };
        // 300 KiB are in use at once, and 30 MiB pass in each run.
        for most in [cycles(), behind(|| alloc.domain().register(), cycles)] {
            assert!(most <= 3 * MIB, "{most} bytes for 300 KiB in use");
        }
    }
}

in_every_setup! {
    /// Complaint 6: No fallible allocation. When the system has no more memory, every way to
    /// allocate returns an error with the value that was moved in, and works again when there is
    /// memory.
    fn every_allocation_may_fail_and_loses_nothing<ProtectsIdentity>(setup) {
        let backing = Arc::new(FailOnDemand::new(System));
        let builder = || setup.builder::<P>().backing(Arc::clone(&backing)).range_bytes(16 * MIB);
        let alloc = builder().build().expect("an allocator");
        let builder_of_cache = setup.cache_builder::<Counted, P>().range_bytes(16 * MIB);
        let cache = builder_of_cache.backing(Arc::clone(&backing)).build().expect("a cache");
        let (drops, layout) = (Arc::new(AtomicUsize::new(0)), layout(4096, 1));

        backing.fail(..);
        assert_eq!(alloc.alloc(layout).unwrap_err().kind(), AllocErrorKind::OutOfMemory);
        assert_eq!(alloc.alloc_zeroed(layout).unwrap_err().kind(), AllocErrorKind::OutOfMemory);
        assert_eq!(alloc.alloc_handle(layout).unwrap_err().kind(), AllocErrorKind::OutOfMemory);
        assert_eq!(alloc.prefill(layout, 1).unwrap_err().kind(), AllocErrorKind::OutOfMemory);
        assert_eq!(alloc.alloc_nowait(layout).unwrap_err().kind(), AllocErrorKind::WouldBlock);
        let Err(error) = cache.alloc(Counted::new(&drops)) else { panic!("there is no memory") };
        assert_eq!(error.kind(), AllocErrorKind::OutOfMemory);
        assert_eq!(drops.load(Ordering::Relaxed), 0, "the value comes back");
        let value = error.into_value();
        assert!(builder().build().is_err());
        adds_up(&alloc.stats(), 0);

        backing.fail(0..0);
        Object::new(&alloc, layout, 1).free(&alloc);
        assert!(cache.alloc(value).is_ok());
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}

in_every_setup! {
    /// Complaint 6: No fallible allocation. Exceeding a configured limit is an error with the
    /// configured number.
    fn limit_and_range_are_errors_that_name_their_number<P>(setup) {
        let fill = |alloc: &MemAlloc<P>| {
            let mut held = Vec::new();
            let error = loop {
                match alloc.alloc(layout(4096, 1)) {
                    Ok(memory) => held.push(Object::filled(memory.cast(), layout(4096, 1), 1)),
                    Err(error) => break error.kind(),
                }
            };
            held.into_iter().for_each(|object| object.free(alloc));
            error
        };
        let limited = setup.builder().limit_bytes(200_000).build().expect("an allocator");
        assert_eq!(fill(&limited), AllocErrorKind::LimitReached { limit: 3 * 64 * KIB });
        let ranged = setup.builder().range_bytes(16 * MIB).build().expect("an allocator");
        assert_eq!(fill(&ranged), AllocErrorKind::RangeExhausted { range: 16 * MIB });
    }
}

/// Complaint 7: A thread cap that panics, growth by configuration. 1,500 threads at a time, each
/// inside sections of both flavours and with objects, on a domain and an allocator without
/// preparation.
#[test]
fn there_is_no_cap_on_threads() {
    const THREADS: usize = 1_500;
    for &cpu_mode in CpuMode::ALL.iter().filter(|mode| mode.is_supported()) {
        let setup = Setup { cpu_mode, barrier: BarrierKind::best() };
        let _announce = Announce(setup, None);
        let alloc = setup.allocator::<AfterTasksTraceGp>();
        let (alloc, all_inside) = (&alloc, &Barrier::new(THREADS + 1));
        let all_seen = &Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            let work = move || {
                let guards = (alloc.domain().pin(), alloc.domain().pin_trace());
                let object = Object::new(alloc, layout(128, 1), 1);
                all_inside.wait();
                all_seen.wait();
                object.free(alloc);
                drop(guards);
            };
            let spawn = |_| {
                let small = thread::Builder::new().stack_size(64 << 10);
                small.spawn_scoped(scope, work).expect("a thread")
            };
            let threads: Vec<_> = (0..THREADS).map(spawn).collect();
            all_inside.wait();
            let reading =
                [alloc.domain().stats(), alloc.domain().trace().stats()].map(|s| s.reading);
            let stats = alloc.stats();
            // The threads continue before anything is checked: a failure must not hang.
            all_seen.wait();
            assert_eq!(reading, [THREADS; 2]);
            adds_up(&stats, THREADS);
            threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        });
        alloc.quiesce().expect("no guard is held");
        assert_eq!((alloc.stats().taken.objects, alloc.domain().stats().slots), (0, 0));
    }
}

/// Complaint 7: Megabytes of tables up front. Measures an unused allocator, in its own process, in
/// which nothing else runs.
#[test]
#[cfg(target_os = "linux")]
fn a_fresh_allocator_costs_little_memory() {
    const CHILD: &str = "MEMALLOC_TEST_FRESH";
    const NAME: &str = "a_fresh_allocator_costs_little_memory";
    if std::env::var_os(CHILD).is_none() {
        let program = std::env::current_exe().expect("a test has a program");
        let mut child = std::process::Command::new(program);
        let output = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").output();
        let output = output.expect("the child ran");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("resident bytes"), "the child did not measure: {text}");
        return;
    }
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
        let pages = pages.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
        pages.expect("the second field is a number") * 4 * KIB
    };
    let setups = Setup::every();
    // Memory that the first allocator of a process takes once is not counted.
    drop(setups[0].allocator::<AfterRcuGp>());
    let before = resident();
    let fresh: Vec<_> = (0..16)
        .flat_map(|_| setups.iter().map(|setup| setup.allocator::<AfterRcuGp>()))
        .inspect(|alloc| assert_eq!(alloc.backing_bytes(), 0))
        .collect();
    let each = (resident() - before) / fresh.len() as u64;
    eprintln!("{each} resident bytes for each allocator");
    assert!(each < 64 * KIB, "{each} bytes for an unused allocator and domain");
}

in_every_setup! {
    /// Complaint 8: Memory that never returns to the system. After a burst most is returned by the
    /// frees, after `trim` all but what CPUs hold, after `quiesce` all.
    fn a_burst_returns_to_the_system<P>(setup) {
        let alloc = setup.allocator::<P>();
        let held: Vec<_> = (0..8 * KIB).map(|_| Object::new(&alloc, layout(1024, 1), 1)).collect();
        let most = held_bytes(&alloc.stats());
        assert!(most >= 8 * MIB);
        held.into_iter().for_each(|object| object.free(&alloc));
        let left = held_bytes(&alloc.stats());
        assert!(left < most / 2, "{left} of {most} bytes are left by themselves");
        alloc.trim();
        let left = held_bytes(&alloc.stats());
        assert!(left < most / 4, "{left} of {most} bytes are left after trim");
        alloc.quiesce().expect("no guard is held");
        assert_eq!(held_bytes(&alloc.stats()), 0);
    }
}

in_every_setup! {
    /// Complaint 8: Memory that piles up when one thread allocates and another frees. 32 MiB pass,
    /// 256 KiB at a time, without readers and beside a thread that may read.
    fn objects_that_one_thread_allocates_and_another_frees_do_not_pile_up<P>(setup) {
        let alloc = &setup.allocator::<P>();
        let pass = || thread::scope(|scope| {
            let (give, take) = sync_channel::<Object>(64);
            scope.spawn(move || take.into_iter().for_each(|object| object.free(alloc)));
            let mut most = 0;
            for _ in 0..8 * KIB {
                give.send(Object::new(alloc, layout(4096, 1), 1)).expect("a receiver");
                most = most.max(alloc.backing_bytes());
            }
            most
        });
        for most in [pass(), behind(|| alloc.domain().register(), pass)] {
            // In addition to the 256 KiB, as much as may be pending, and as much as may be ready.
            assert!(most <= 8 * MIB, "{most} bytes held");
        }
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Complaint 9: A heap that must die on the thread that made it. Created, used and ended on
    /// three threads, each after the previous one has ended.
    fn an_allocator_may_end_on_another_thread_than_it_was_made_on<P>(setup) {
        let setup = *setup;
        let make = move || {
            let alloc = setup.allocator::<P>();
            let held: Vec<_> = (0..300).map(|_| Object::new(&alloc, layout(64, 1), 3)).collect();
            drop((alloc.domain().pin(), alloc.domain().pin_trace()));
            (alloc, held)
        };
        let (alloc, held) = thread::spawn(make).join().expect("it does not panic");
        let work = move || {
            for object in held {
                let another = Object::new(&alloc, layout(64, 1), 4);
                object.free(&alloc);
                another.free_rcu(&alloc);
            }
            alloc
        };
        let alloc = thread::spawn(work).join().expect("it does not panic");
        let end = move || alloc.destroy().expect("nothing leaked");
        let stats = thread::spawn(end).join().expect("it does not panic");
        assert_eq!((stats.taken.objects, held_bytes(&stats)), (0, 0));
    }
}

in_every_setup! {
    /// Complaint 10: Statistics that are wrong or unexplained; no way to know which mode is active.
    /// The sums are right whenever nothing runs, and the modes are those that were configured.
    fn statistics_add_up_at_any_quiet_moment_and_name_the_modes<P>(setup) {
        let alloc = &setup.allocator::<P>();
        let stats = alloc.stats();
        assert_eq!((stats.policy, stats.cpu_mode), (P::KIND, setup.cpu_mode));
        // An adaptive barrier starts with this kind.
        let begins_with = match setup.barrier {
            BarrierKind::Adaptive => BarrierKind::Membarrier,
            kind => kind,
        };
        assert_eq!((stats.barrier, stats.barrier_switches), (begins_with, 0));
        for round in 1..=5 {
            // Two threads start, work and end; each leaves some of the objects that it took.
            let work = |size| {
                let taken = (0..500).map(|_| Object::new(alloc, layout(size, 1), 1));
                let (left, freed): (Vec<_>, Vec<_>) =
                    taken.enumerate().partition(|(number, _)| number % 50 < round);
                freed.into_iter().for_each(|(number, object)| match number % 3 {
                    0 => object.free(alloc),
                    1 => object.free_rcu(alloc),
                    _ => object.free_unshared(alloc),
                });
                left
            };
            let left: Vec<_> = thread::scope(|scope| {
                let threads = [64, 2048].map(|size| scope.spawn(move || work(size)));
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
            });
            adds_up(&alloc.stats(), left.len());
            assert_eq!(left.len(), 20 * round);
            left.into_iter().for_each(|(_, object)| object.free(alloc));
            adds_up(&alloc.stats(), 0);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor on one thread.
fn block_on<F: Future>(task: F) -> F::Output {
    let (mut task, waker) = (pin!(task), Waker::from(Arc::new(Unpark(thread::current()))));
    loop {
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

/// Yields once, so that other tasks can run.
async fn elsewhere() {
    let mut been_there = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut been_there, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

in_every_setup! {
    /// Complaint 12: Deadlock around guards and `.await`. Two tasks share one thread; while one
    /// holds a guard across its `.await`, every way of waiting is an error for the other.
    fn waiting_beside_a_guard_held_across_await_is_an_error<Immediate>(setup) {
        let alloc = setup.allocator::<P>();
        let domain = alloc.domain();
        let guard = block_on(async {
            let mut holds = pin!(async {
                let guard = domain.pin_trace();
                elsewhere().await;
                guard
            });
            std::future::poll_fn(|context| {
                assert!(holds.as_mut().poll(context).is_pending(), "the guard is held");
                Poll::Ready(())
            })
            .await;
            let inside = Err(SynchronizeError::InsideReadSection);
            assert_eq!(domain.trace().synchronize(), inside);
            assert_eq!(domain.trace().synchronize_expedited(), inside);
            assert_eq!(domain.trace().synchronize_timeout(Duration::MAX), inside);
            assert_eq!(domain.trace().barrier(), inside);
            assert_eq!(alloc.quiesce().map(drop), inside);
            assert_eq!(domain.rcu().synchronize(), Ok(()), "no RCU section is open");
            holds.await
        });
        // The guard moves to another thread, and ends there.
        thread::scope(|scope| _ = scope.spawn(move || drop(guard)));
        assert_eq!(domain.trace().synchronize(), Ok(()));
    }
}

in_every_setup! {
    /// Complaint 12: Deadlock around guards and `.await`. A task that holds a guard may free more
    /// than may be pending, and end an allocator; neither waits for the task itself.
    fn frees_and_ends_beside_a_guard_held_across_await_go_on<ProtectsIdentity>(setup) {
        let domain = Domain::builder().barrier_kind(setup.barrier).stall_after(Duration::MAX).build();
        let domain = domain.expect("a supported kind");
        let builder = setup.builder::<P>().domain(domain.clone()).max_pending(64 * KIB);
        let alloc = builder.build().expect("an allocator");
        block_on(async {
            let guard = domain.pin_trace_owned();
            elsewhere().await;
            (0..500).for_each(|_| Object::new(&alloc, layout(1024, 1), 1).free(&alloc));
            drop(alloc);
            drop(guard);
        });
        domain.barrier().expect("no guard is held");
        domain.trace().barrier().expect("no guard is held");
        assert_eq!((domain.stats().callbacks, domain.trace().stats().callbacks), (0, 0));
    }
}
