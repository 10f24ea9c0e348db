//! A process with busy threads forks. In the child, which has only the forking thread, allocators
//! and domains keep working, and the parent is not affected.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use common::{Dice, Setup, behind, claim, disclaim, in_every_setup, layout};
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, MemAlloc, ReusePolicy, Worker};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Number of forks in each configuration.
const FORKS: usize = 40;

/// The number of seconds after which a child counts as stuck and is killed.
const STUCK: u32 = 60;

/// So small that frees wait for readers.
const MAX_PENDING: u64 = 1 << 16;

const SIZES: [usize; 3] = [16, 64, 512];

/// Runs each of `works` on its own thread, in a child. (Threads of the standard library take a lock
/// when they begin and end, which a thread of the parent may have held during the fork.)
fn on_other_threads(works: &[&(dyn Fn() + Sync)]) {
    extern "C" fn run(work: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `works` outlives the threads, which are joined below.
        let work = unsafe { *work.cast::<&(dyn Fn() + Sync)>() };
        let panicked = catch_unwind(AssertUnwindSafe(work)).is_err();
        std::ptr::without_provenance_mut(panicked.into())
    }
    let begin = |work: &&(dyn Fn() + Sync)| {
        let (mut thread, work) = (MaybeUninit::uninit(), std::ptr::from_ref(work).cast_mut());
        // SAFETY: the thread runs `run` with the argument that it expects, and `thread` is
        // initialised if it begins.
        unsafe {
            let error =
                libc::pthread_create(thread.as_mut_ptr(), std::ptr::null(), run, work.cast());
            assert_eq!(error, 0, "a thread");
            thread.assume_init()
        }
    };
    let threads: Vec<libc::pthread_t> = works.iter().map(begin).collect();
    for thread in threads {
        let mut panicked = std::ptr::null_mut();
        // SAFETY: begun above, and joined once.
        assert_eq!(unsafe { libc::pthread_join(thread, &mut panicked) }, 0);
        assert!(panicked.is_null(), "another thread panicked");
    }
}

/// Lets one test run at a time, so that none begins or ends threads while another forks.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` in a child, and returns its wait status; 0 means success.
fn in_child(work: impl FnOnce()) -> libc::c_int {
    common::in_child(STUCK, work)
}

type Held = Vec<(NonNull<u8>, usize)>;

/// Numbers that mark the objects of one holder each.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

/// Allocates and frees objects in every way, and reads, for `rounds` rounds.
fn hammer<P: ReusePolicy>(alloc: &MemAlloc<P>, held: &mut Held, owner: u64, rounds: usize) {
    let mut dice = Dice::new(owner);
    for _ in 0..rounds {
        let size = SIZES[dice.roll(SIZES.len())];
        if held.len() < 64 {
            let object = alloc.alloc(layout(size, 1)).expect("memory").cast();
            claim(object, owner);
            held.push((object, size));
        }
        if dice.roll(2) == 0 || held.len() > 48 {
            let (object, size) = held.swap_remove(dice.roll(held.len()));
            disclaim(object, owner);
            // SAFETY: this holder's own object, given up here; it has no readers.
            unsafe {
                match dice.roll(3) {
                    0 => alloc.free(object, layout(size, 1)),
                    1 => alloc.free_rcu(object, layout(size, 1)),
                    _ => alloc.free_unshared(object, layout(size, 1)),
                }
            }
        }
        match dice.roll(32) {
            0 => drop((alloc.domain().pin(), alloc.domain().pin())),
            1 => alloc.domain().call(|| ()),
            2 => _ = alloc.trim(),
            3 => _ = alloc.stats(),
            _ => (),
        }
    }
}

fn free_all<P: ReusePolicy>(alloc: &MemAlloc<P>, held: Held, owner: u64) {
    for (object, size) in held {
        disclaim(object, owner);
        // SAFETY: the holder's own object, given up here.
        unsafe { alloc.free(object, layout(size, 1)) };
    }
}

/// Runs `work` on threads over and over while `forks` forks.
fn beside_busy_threads(work: impl Fn() + Sync, forks: impl FnOnce()) {
    let (stop, begun) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // They leave most of the time to the children.
                // SAFETY: takes no pointers.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as u32, 10) };
                begun.fetch_add(1, Ordering::Relaxed);
                while !stop.load(Ordering::Relaxed) {
                    work();
                }
            });
        }
        while begun.load(Ordering::Relaxed) < 3 {
            thread::yield_now();
        }
        let outcome = catch_unwind(AssertUnwindSafe(forks));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Uses an allocator in every way in the child.
fn live_on<P: ReusePolicy>(alloc: &MemAlloc<P>) {
    let before = alloc.stats().taken.objects;
    let owner = u64::MAX;
    let mut held = Held::new();
    hammer(alloc, &mut held, owner, 2_000);
    assert!(alloc.stats().live.objects >= held.len() as u64);
    let beside = |owner| {
        let mut held = Held::new();
        hammer(alloc, &mut held, owner, 500);
        free_all(alloc, held, owner);
    };
    on_other_threads(&[&|| beside(u64::MAX - 1), &|| beside(u64::MAX - 2)]);
    free_all(alloc, held, owner);
    let domain = alloc.domain();
    domain.synchronize().expect("this thread does not read");
    domain.trace().synchronize().expect("no sleeper is inside");
    domain.barrier().expect("callbacks of vanished threads are not waited for");
    alloc.quiesce().expect("this thread does not read");
    let stats = alloc.stats();
    assert_eq!(domain.stats().reading, 0);
    assert!(stats.taken.objects <= before, "{before} before, {stats:?}");
    // Lost objects count as live, as do those that the vanished threads held.
    assert_eq!((stats.cached.objects, stats.pending.objects), (0, 0), "{stats:?}");
    assert_eq!(stats.live, stats.taken);
}

in_every_setup! {
    /// The vanished threads may have been in the middle of any operation.
    fn an_allocator_lives_on_in_the_child_of_a_busy_process<P>(setup) {
        let _alone = alone();
        let domain = setup.domain();
        let alloc = setup.builder::<P>().domain(domain.clone()).max_pending(MAX_PENDING);
        let alloc = Arc::new(alloc.build().expect("an allocator"));
        let work = || {
            let (owner, mut held) = (NEXT_OWNER.fetch_add(1, Ordering::Relaxed), Held::new());
            hammer(&alloc, &mut held, owner, 1_000);
            free_all(&alloc, held, owner);
        };
        beside_busy_threads(work, || {
            for fork in 0..FORKS {
                assert_eq!(in_child(|| live_on(&alloc)), 0, "fork {fork}");
            }
        });
        alloc.quiesce().expect("this thread does not read");
        assert_eq!(alloc.stats().taken.objects, 0, "the parent lost nothing");
    }
}

in_every_setup! {
    /// Grace periods end although the readers that they would wait for have vanished inside a
    /// section, or while they drove a grace period.
    fn grace_periods_end_in_the_child_of_a_process_of_readers(setup) {
        let _alone = alone();
        let domain = setup.domain();
        let work = || {
            for round in 0..50 {
                let guards = (domain.pin(), domain.pin());
                assert!(!domain.poll(domain.start_poll()));
                drop(guards);
                _ = domain.advance(domain.start_poll());
                if round % 10 == 0 {
                    domain.call(thread::yield_now);
                }
            }
        };
        beside_busy_threads(work, || {
            for fork in 0..4 * FORKS {
                let status = in_child(|| {
                    domain.synchronize().expect("this thread does not read");
                    domain.barrier().expect("this thread does not read");
                    assert_eq!(domain.stats().reading, 0);
                    let passed = domain.stats().grace_periods;
                    assert!(domain.advance(domain.start_poll()));
                    assert_eq!(domain.stats().grace_periods, passed + 1, "none is half begun");
                    let guard = domain.pin();
                    let cookie = domain.start_poll();
                    on_other_threads(&[&|| assert!(!domain.advance(cookie))]);
                    drop(guard);
                    // This thread may read again, so the other thread needs a barrier.
                    on_other_threads(&[&|| domain.synchronize().expect("no reader is inside")]);
                });
                assert_eq!(status, 0, "fork {fork}");
            }
        });
    }
}

in_every_setup! {
    /// The guards of the forking thread are valid in the child.
    fn a_section_of_the_forking_thread_goes_on_in_the_child(setup) {
        let _alone = alone();
        let domain = setup.domain();
        let (guard, sleeper) = (domain.pin(), domain.pin_trace());
        let (cookie, slept) = (domain.start_poll(), domain.trace().start_poll());
        let status = in_child(|| {
            assert!(!domain.advance(cookie) && !domain.trace().advance(slept));
            assert!(domain.synchronize().is_err(), "it is inside");
            // SAFETY: takes no arguments.
            let this_thread = unsafe { libc::gettid() } as u32;
            for reader in [domain.rcu().held_up_by(), domain.trace().held_up_by()] {
                assert_eq!(reader.map(|reader| reader.thread), Some(this_thread));
            }
            drop((guard, sleeper));
            assert!(domain.advance(cookie) && domain.trace().advance(slept));
            domain.synchronize().expect("it has left");
        });
        assert_eq!(status, 0);
    }
}

/// A sleepable guard belongs to the thread that holds it, not to the thread that made it.
#[test]
fn a_sleeping_section_that_moved_to_the_forking_thread_goes_on_in_the_child() {
    let _alone = alone();
    for setup in Setup::every() {
        let domain = setup.domain();
        let (send, receive) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let domain = &domain;
            scope.spawn(move || {
                send.send((domain.pin_trace(), domain.pin_trace())).expect("it is received");
                _ = wait.recv();
            });
            let guards = receive.recv().expect("two guards");
            let slept = domain.trace().start_poll();
            let status = in_child(|| {
                assert!(!domain.trace().advance(slept));
                drop(guards);
                assert!(domain.trace().advance(slept));
                assert_eq!(domain.trace().stats().slots, 0);
            });
            drop(done);
            assert_eq!(status, 0);
        });
    }
}

in_every_setup! {
    /// The forking thread might have its guard. The vanished thread's RCU section is over.
    fn a_sleeping_section_of_a_thread_that_vanished_does_not_end_in_the_child(setup) {
        let _alone = alone();
        let domain = setup.domain();
        behind(|| (domain.pin(), domain.pin_trace()), || {
            let status = in_child(|| {
                domain.synchronize().expect("this thread does not read");
                let slept = domain.trace().start_poll();
                assert!((0..1_000).all(|_| !domain.trace().advance(slept)));
            });
            assert_eq!(status, 0);
        });
        assert!(domain.trace().advance(domain.trace().start_poll()), "it ends in the parent");
    }
}

/// This holds even if another thread of the parent was building or dropping an allocator.
#[test]
fn domains_and_allocators_come_and_go_in_the_child() {
    let _alone = alone();
    let work = || {
        let alloc = MemAlloc::<AfterRcuGp>::builder().domain(Domain::new()).build();
        drop(alloc.expect("an allocator"));
    };
    beside_busy_threads(work, || {
        for fork in 0..4 * FORKS {
            assert_eq!(in_child(work), 0, "fork {fork}");
        }
    });
}

#[test]
fn an_allocator_is_destroyed_in_the_child_with_what_is_left_of_its_worker() {
    let _alone = alone();
    for setup in Setup::every() {
        let alloc = Arc::new(setup.allocator::<AfterRcuGp>());
        let worker = Worker::every(Duration::from_micros(50)).alloc(&alloc).domain(alloc.domain());
        let mut worker = Some(worker.start().expect("a thread"));
        let (begun, wait) = mpsc::channel();
        alloc.domain().call(move || begun.send(()).expect("it is waited for"));
        wait.recv().expect("the worker calls back");
        for fork in 0..FORKS {
            let status = in_child(|| {
                drop(worker.take());
                live_on(&alloc);
            });
            assert_eq!(status, 0, "fork {fork}");
        }
    }
}
