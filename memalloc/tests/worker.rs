//! A worker does the background work of a program that is otherwise idle. Each test waits for an
//! effect of the worker, and fails if it does not come within a minute.
#![cfg(not(loom))]

mod common;
#[path = "common/leak.rs"]
mod leak;

use common::{Object, adds_up, cpus, in_every_setup, layout};
use leak::leak;
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{Domain, FlavourKind, StallReport};
use memalloc::{AfterRcuGp, MemAlloc, Watermarks, Worker};
use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// Waits for an effect of the worker.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "not after a minute: {what}");
        thread::sleep(INTERVAL / 4);
    }
}

in_every_setup! {
    /// The objects are freed inside a section, so that they have to wait, and nothing else is
    /// called afterwards: the worker returns them to their slabs. A CPU keeps less than a pending
    /// batch, and the batch that it carved last. The thread may have run on each CPU.
    fn deferred_objects_come_back_while_the_program_is_idle<P>(setup) {
        const SIZE: usize = 512;
        let objects = 1_500 * cpus() as u64;
        let alloc = Arc::new(setup.allocator::<P>());
        let worker = Worker::every(INTERVAL).alloc(&alloc).start().expect("a thread");
        let guard = alloc.domain().pin();
        let held: Vec<_> = (0..objects).map(|_| Object::new(&alloc, layout(SIZE, 1), 1)).collect();
        held.into_iter().for_each(|object| object.free_rcu(&alloc));
        drop(guard);
        let marks = Watermarks::for_size(SIZE);
        let most = (cpus() * (marks.deferred(SIZE) + marks.batch)) as u64;
        assert!(most < objects / 2, "{most} may stay");
        until("the objects are in their slabs", || alloc.stats().taken.objects <= most);
        drop(worker);
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    fn callbacks_of_both_flavours_run_while_the_program_is_idle(setup) {
        let domain = setup.domain();
        let ran = Arc::new(AtomicUsize::new(0));
        let worker = Worker::every(INTERVAL).domain(&domain).start().expect("a thread");
        let guards = (domain.pin(), domain.pin_trace());
        let (first, second) = (ran.clone(), ran.clone());
        domain.rcu().call(move || _ = first.fetch_add(1, Ordering::Relaxed));
        domain.trace().call(move || _ = second.fetch_add(1, Ordering::Relaxed));
        assert_eq!(ran.load(Ordering::Relaxed), 0, "readers are inside");
        drop(guards);
        until("both callbacks have run", || ran.load(Ordering::Relaxed) == 2);
        drop(worker);
    }
}

in_every_setup! {
    /// The reader is the test's own thread, which waits only for the report. Each stall is reported
    /// once, so the second report is of the second stall.
    fn stalls_are_reported_while_the_program_is_idle(setup) {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let domain = Domain::builder().barrier_kind(setup.barrier).stall_after(INTERVAL);
        let domain = domain.stall_handler(move |report: &StallReport| {
            let _ = tell.lock().expect("never poisoned").send(*report);
        });
        let domain = domain.build().expect("a supported kind");
        let worker = Worker::every(INTERVAL).domain(&domain).start().expect("a thread");
        let mut flavours = Vec::new();
        for stall in 0..2 {
            let guard = (stall == 0).then(|| domain.pin());
            let sleeper = (stall == 1).then(|| domain.pin_trace());
            domain.rcu().call(|| ());
            domain.trace().call(|| ());
            let report = told.recv_timeout(LONG).expect("a report within a minute");
            assert!(report.reader.inside_for >= INTERVAL, "{report}");
            flavours.push(report.flavour);
            drop((guard, sleeper));
        }
        drop(worker);
        assert_eq!(flavours, [FlavourKind::Rcu, FlavourKind::TasksTrace]);
        assert!(told.try_recv().is_err(), "each is reported once");
    }
}

in_every_setup! {
    /// The worker holds a clone of the domain. Dropping the worker drops that clone, so the domain
    /// ends with the test's own clone, and runs the remaining callbacks.
    fn a_worker_ends_with_its_handle(setup) {
        let ran = Arc::new(AtomicUsize::new(0));
        let domain = setup.domain();
        let guard = domain.pin_trace_owned();
        let worker = Worker::every(INTERVAL).domain(&domain).start().expect("a thread");
        let called = ran.clone();
        domain.trace().call(move || _ = called.fetch_add(1, Ordering::Relaxed));
        drop(domain);
        drop(worker);
        assert_eq!(ran.load(Ordering::Relaxed), 0, "a sleeper is inside");
        drop(guard);
        assert_eq!(ran.load(Ordering::Relaxed), 1, "the domain ended here");
    }
}

in_every_setup! {
    /// A callback may drop the worker that runs it, or panic.
    fn a_callback_may_drop_its_worker_or_panic(setup) {
        let domain = setup.domain();
        let (tell, told) = channel();
        let held: Arc<Mutex<Option<Worker>>> = Arc::default();
        let worker = Worker::every(INTERVAL).domain(&domain).start().expect("a thread");
        *held.lock().expect("never poisoned") = Some(worker);

        domain.call(|| panic!("a callback that panics"));
        let say = tell.clone();
        domain.call(move || say.send("continues").expect("a receiver"));
        assert_eq!(told.recv_timeout(LONG).expect("within a minute"), "continues");

        let theirs = held.clone();
        domain.call(move || {
            let worker = theirs.lock().expect("never poisoned").take();
            drop(worker);
            tell.send("dropped").expect("a receiver");
        });
        assert_eq!(told.recv_timeout(LONG).expect("within a minute"), "dropped");
    }
}

in_every_setup! {
    /// The test holds every object, and the interval is longer than it waits: only a worker that is
    /// woken makes more objects ready. The first call is the first of the allocator.
    fn an_allocation_that_may_not_wait_and_finds_nothing_ready_wakes_the_worker<P>(setup) {
        let alloc = Arc::new(setup.allocator::<P>());
        let worker = Worker::every(10 * LONG).alloc(&alloc).start().expect("a thread");
        let (layout, mut held) = (layout(256, 8), Vec::new());
        for _ in 0..1_500 {
            until("an object is ready", || {
                let memory = alloc.alloc_nowait(layout).ok();
                held.extend(memory.map(|memory| Object::filled(memory.cast(), layout, 1)));
                memory.is_some()
            });
        }
        held.into_iter().for_each(|object| object.free(&alloc));
        drop(worker);
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// A call that succeeds wakes the worker too, if it leaves fewer objects ready than are
    /// reserved.
    fn a_worker_that_is_woken_makes_as_many_objects_ready_as_are_reserved<P>(setup) {
        const RESERVED: usize = 1_000;
        let alloc = Arc::new(setup.allocator::<P>());
        let layout = layout(64, 8);
        alloc.prefill(layout, RESERVED).expect("memory");
        let worker = Worker::every(10 * LONG).alloc(&alloc).start().expect("a thread");
        let object = |_| {
            let memory = alloc.alloc_nowait(layout).expect("it is reserved");
            Object::filled(memory.cast(), layout, 1)
        };
        let held: Vec<_> = (0..RESERVED / 2).map(object).collect();
        until("the reserve is full", || alloc.stats().cached.objects >= RESERVED as u64);
        held.into_iter().for_each(|object| object.free(&alloc));
        drop(worker);
        adds_up(&alloc.stats(), 0);
    }
}

#[cfg(unix)]
in_every_setup! {
    /// A signal handler makes all of the calls.
    fn a_signal_handler_that_finds_nothing_ready_wakes_the_worker<AfterRcuGp>(setup) {
        const OBJECTS: usize = 1_500;
        static ALLOC: AtomicPtr<MemAlloc<AfterRcuGp>> = AtomicPtr::new(ptr::null_mut());
        static GOT: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn on_signal(_: libc::c_int) {
            // SAFETY: the test leaks its allocators.
            let alloc = unsafe { &*ALLOC.load(Ordering::Relaxed) };
            while alloc.alloc_nowait(layout(64, 8)).is_ok()
                && GOT.fetch_add(1, Ordering::Relaxed) < OBJECTS
            {}
        }
        let alloc = leak(Arc::new(setup.allocator()));
        let worker = Worker::every(10 * LONG).alloc(alloc).start().expect("a thread");
        ALLOC.store(Arc::as_ptr(alloc).cast_mut(), Ordering::Relaxed);
        GOT.store(0, Ordering::Relaxed);
        // SAFETY: the handler is async-signal-safe, and stays in place.
        unsafe { libc::signal(libc::SIGUSR2, on_signal as *const () as libc::sighandler_t) };
        until("the handler has enough objects", || {
            // SAFETY: a plain call; the handler is in place.
            unsafe { libc::raise(libc::SIGUSR2) };
            GOT.load(Ordering::Relaxed) >= OBJECTS
        });
        drop(worker);
    }
}

#[cfg(target_os = "linux")]
in_every_setup! {
    /// Signal handlers of the program interrupt only its own threads.
    fn no_signal_interrupts_a_worker(setup) {
        /// Returns true if the calling thread blocks a signal.
        fn blocks(signal: libc::c_int) -> bool {
            // SAFETY: a set of signals is plain bits, and the call writes the one that is passed.
            unsafe {
                let mut blocked: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
                libc::sigismember(&raw const blocked, signal) == 1
            }
        }
        let domain = setup.domain();
        let (tell, told) = channel();
        let worker = Worker::every(INTERVAL).domain(&domain).start().expect("a thread");
        domain.call(move || {
            let signals = [libc::SIGUSR1, libc::SIGALRM, libc::SIGSEGV];
            tell.send(signals.map(blocks)).expect("a receiver");
        });
        let blocked = told.recv_timeout(LONG).expect("within a minute");
        assert_eq!(blocked, [true, true, false]);
        assert!(!blocks(libc::SIGUSR1), "the thread that started it is as before");
        drop(worker);
    }
}

thread_local! {
    /// The value that the last `Mark` dropped on this thread left, until the thread ends.
    static LEFT: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
}

/// A value that stores something on the thread that drops it.
struct Mark {
    left: Arc<()>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        LEFT.set(Some(self.left.clone()));
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

in_every_setup! {
    /// A worker does not keep caches alive, and its thread ends when all of them are gone.
    fn a_worker_ends_with_the_caches_that_it_serves<ProtectsIdentity>(setup) {
        let backing = Arc::new(FailOnDemand::new(System));
        let builder = setup.cache_builder::<Mark, P>().backing(Arc::clone(&backing));
        let cache = Arc::new(builder.range_bytes(16 << 20).build().expect("a cache"));
        let worker = Worker::every(INTERVAL).cache(&cache).start().expect("a thread");

        let (left, dropped) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
        let domain = cache.domain().clone();
        let guard = domain.pin();
        // More than a batch, so that some wait for the worker and not for another free.
        for _ in 0..100 {
            let Ok(value) = cache.alloc(Mark { left: left.clone(), dropped: dropped.clone() })
            else {
                panic!("memory")
            };
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value.into_raw()) };
        }
        drop(guard);
        until("the worker drops values", || dropped.load(Ordering::Relaxed) > 0);

        drop(cache);
        until("the cache ends", || Arc::strong_count(&backing) == 1);
        assert_eq!(dropped.load(Ordering::Relaxed), 100);
        // Drops what the end of the cache may have left on this thread.
        LEFT.take();
        until("the worker's thread ends", || Arc::strong_count(&left) == 1);
        drop(worker);
    }
}
