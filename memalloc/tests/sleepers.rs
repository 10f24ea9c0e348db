//! Sleepable readers: guards that move between threads, the readers that each flavour waits for,
//! and what the policies keep for a sleeper.
#![cfg(not(loom))]

mod common;

use common::{Dice, Object, adds_up, behind, in_every_setup, layout, owner_of};
use memalloc::PolicyKind;
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{
    Cookie, Flavour, GracePeriods, OwnedTraceGuard, SynchronizeError, TraceGuard, drop_box,
};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Checks a flavour while it has a reader, and after the reader has left.
fn waits_for_its_own_readers<F: Flavour, O: Flavour, G>(
    flavour: &GracePeriods<F>,
    other: &GracePeriods<O>,
    enter: impl FnOnce() -> G + Send,
) {
    let ran = Arc::new(AtomicUsize::new(0));
    /// Counts its drop.
    struct Retired(Arc<AtomicUsize>);
    impl Drop for Retired {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let cookie: Cookie<F> = behind(enter, || {
        let cookie = flavour.start_poll();
        assert!(!flavour.advance(cookie) && !flavour.poll(cookie));
        let called = ran.clone();
        flavour.call(move || _ = called.fetch_add(1, Ordering::Relaxed));
        let retired = NonNull::from(Box::leak(Box::new(Retired(ran.clone()))));
        // SAFETY: it came from a box, and no other thread knows it.
        unsafe { flavour.retire(retired.cast(), drop_box::<Retired>) };
        assert_eq!((flavour.run_callbacks(), flavour.stats().callbacks), (0, 2));

        let error = flavour.synchronize_timeout(Duration::from_millis(1)).unwrap_err();
        let SynchronizeError::TimedOut { reader: Some(reader) } = error else { panic!("{error}") };
        if cfg!(target_os = "linux") {
            assert_eq!(reader.thread_name().as_deref(), Some("sitter"));
            assert!(error.to_string().contains("(sitter)"), "{error}");
        }
        assert_eq!(flavour.held_up_by().map(|reader| reader.thread), Some(reader.thread));
        assert_eq!(ran.load(Ordering::Relaxed), 0, "a reader is inside");

        other.synchronize().expect("the other flavour has no reader");
        other.barrier().expect("the other flavour has no reader");
        cookie
    });
    flavour.synchronize_expedited().expect("this thread does not read");
    assert!(flavour.poll(cookie) && flavour.advance(cookie) && flavour.completed() >= cookie);
    flavour.synchronize_timeout(Duration::MAX).expect("this thread does not read");
    flavour.barrier().expect("this thread does not read");
    assert_eq!((ran.load(Ordering::Relaxed), flavour.stats().callbacks), (2, 0));
    assert_eq!(flavour.held_up_by(), None);
}

in_every_setup! {
    fn each_flavour_waits_for_its_own_readers_only(setup) {
        let domain = setup.domain();
        waits_for_its_own_readers(domain.rcu(), domain.trace(), || domain.pin());
        waits_for_its_own_readers(domain.trace(), domain.rcu(), || domain.pin_trace());
        waits_for_its_own_readers(domain.trace(), domain.rcu(), || domain.pin_trace_owned());
    }
}

in_every_setup! {
    /// They end on any thread and in any order; the grace period ends after the last of them.
    fn many_guards_of_one_thread_each_hold_the_grace_period_up(setup) {
        let domain = setup.domain();
        let mut dice = Dice::new(5);
        let mut guards: Vec<TraceGuard<'_>> = (0..40).map(|_| domain.pin_trace()).collect();
        assert_eq!(domain.trace().stats().reading, 40);
        let cookie = domain.trace().start_poll();
        while !guards.is_empty() {
            assert!(!domain.trace().advance(cookie), "{} guards are left", guards.len());
            let guard = guards.swap_remove(dice.roll(guards.len()));
            if dice.roll(2) == 0 {
                drop(guard);
            } else {
                thread::scope(|scope| _ = scope.spawn(move || drop(guard)));
            }
            assert_eq!(domain.trace().stats().reading, guards.len());
        }
        assert!(domain.trace().advance(cookie));
        assert!(domain.trace().stats().slots <= 1, "this thread keeps one at most");
    }
}

in_every_setup! {
    fn waiting_is_an_error_while_a_guard_that_this_thread_made_lives_anywhere(setup) {
        let domain = setup.domain();
        let guard = domain.pin_trace();
        let inside = Err(SynchronizeError::InsideReadSection);
        assert_eq!(domain.trace().synchronize(), inside);
        let (ended, wait) = channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                wait.recv().expect("told to end it");
                drop(guard);
            });
            assert_eq!(domain.trace().synchronize_expedited(), inside);
            assert_eq!(domain.trace().synchronize_timeout(Duration::MAX), inside);
            assert_eq!(domain.trace().barrier(), inside);
            ended.send(()).expect("a receiver");
        });
        assert_eq!(domain.trace().synchronize(), Ok(()));
    }
}

in_every_setup! {
    /// The thread that began the section is gone: the report says so, and the slot is reused once
    /// the guard is gone.
    fn a_guard_may_outlive_the_thread_that_made_it(setup) {
        let domain = setup.domain();
        for extra in [0, 1, 3] {
            let make = || {
                let others: Vec<_> = (0..extra).map(|_| domain.pin_trace_owned()).collect();
                (domain.pin_trace_owned(), others)
            };
            let (guard, others) =
                thread::scope(|scope| scope.spawn(make).join().expect("it does not panic"));
            let limit = Duration::from_millis(1);
            let error = domain.trace().synchronize_timeout(limit).unwrap_err();
            let SynchronizeError::TimedOut { reader: Some(reader) } = error else {
                panic!("{error}")
            };
            assert_eq!((reader.thread, reader.thread_name()), (0, None));
            assert!(error.to_string().contains("a thread that has ended"), "{error}");
            drop(guard);
            assert_eq!(domain.trace().stats().reading, extra);
            drop(others);
            domain.trace().synchronize().expect("every guard is gone");
            assert_eq!(domain.trace().stats().slots, 0);
        }
    }
}

in_every_setup! {
    fn an_owned_guard_keeps_its_domain_alive(setup) {
        let ran = Arc::new(AtomicUsize::new(0));
        let domain = setup.domain();
        let guard = domain.pin_trace_owned();
        let called = ran.clone();
        domain.trace().call(move || _ = called.fetch_add(1, Ordering::Relaxed));
        drop(domain);
        assert_eq!(ran.load(Ordering::Relaxed), 0, "the guard holds it up");
        thread::spawn(move || drop(guard)).join().expect("it does not panic");
        assert_eq!(ran.load(Ordering::Relaxed), 1, "the guard was the last of the domain");
    }
}

thread_local! {
    /// Filled before or after the thread's first section, and so dropped after or before the thread
    /// gives its slots back.
    static KEPT: RefCell<Vec<OwnedTraceGuard>> = const { RefCell::new(Vec::new()) };
}

in_every_setup! {
    fn guards_in_thread_local_storage_end_with_their_thread(setup) {
        let domain = setup.domain();
        for storage_first in [true, false] {
            let work = || {
                if storage_first {
                    KEPT.with(|kept| kept.borrow_mut().reserve(1));
                }
                let guards = [domain.pin_trace_owned(), domain.pin_trace_owned()];
                KEPT.with(|kept| kept.borrow_mut().extend(guards));
            };
            thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"));
            domain.trace().synchronize().expect("every section has ended");
            let stats = domain.trace().stats();
            assert_eq!((stats.reading, stats.slots), (0, 0));
        }
    }
}

in_every_setup! {
    /// This holds whatever is freed, allocated, trimmed and advanced meanwhile. Once the sleeper
    /// has left, the objects are allocated again.
    fn after_tasks_trace_gp_reuses_nothing_that_a_sleeper_may_have_found<AfterTasksTraceGp>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(256, 8);
        let freed: Vec<_> = (0..500).map(|_| Object::new(&alloc, layout, 7)).collect();
        let places: HashSet<_> = freed.iter().map(|object| object.place).collect();
        behind(
            || alloc.domain().pin_trace(),
            || {
                freed.into_iter().for_each(|object| object.free(&alloc));
                for round in 0..10 {
                    let taken: Vec<_> =
                        (0..400).map(|_| Object::new(&alloc, layout, round)).collect();
                    assert!(taken.iter().all(|object| !places.contains(&object.place)), "reused");
                    taken.into_iter().for_each(|object| object.free(&alloc));
                    alloc.domain().synchronize().expect("no RCU section is open");
                    alloc.trim();
                    alloc.tend();
                }
                places.iter().for_each(|&place| Object::seen_before(place, layout, 7).check());
            },
        );
        alloc.domain().trace().synchronize().expect("the sleeper has left");
        alloc.domain().synchronize().expect("no reader is inside");
        let taken: Vec<_> = (0..10_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        assert!(taken.iter().any(|object| places.contains(&object.place)), "never reused");
        taken.into_iter().for_each(|object| object.free(&alloc));
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// A sleeper keeps memory and type: objects that it may have found are allocated again after an
    /// RCU grace period, but are not given to another class or to the system.
    fn after_rcu_gp_keeps_for_a_sleeper_the_memory_and_not_the_object<AfterRcuGp>(setup) {
        const OBJECTS: u64 = 400;
        let alloc = setup.allocator::<P>();
        let layout = layout(4096, 1);
        let held: Vec<_> = (0..OBJECTS).map(|_| Object::new(&alloc, layout, 7)).collect();
        let places: HashSet<_> = held.iter().map(|object| object.place).collect();
        behind(
            || alloc.domain().pin_trace(),
            || {
                held.into_iter().for_each(|object| object.free(&alloc));
                for _ in 0..4 {
                    alloc.domain().synchronize().expect("no RCU section is open");
                    alloc.trim();
                }
                let stats = alloc.stats();
                assert!(stats.taken.objects >= OBJECTS, "back in their slabs: {stats:?}");
                places.iter().for_each(|&place| Object::seen_before(place, layout, 7).check());
                let again: Vec<_> = (0..OBJECTS).map(|_| Object::new(&alloc, layout, 1)).collect();
                let reused = again.iter().filter(|object| places.contains(&object.place)).count();
                assert!(reused > 0, "the sleeper held up reuse");
                again.into_iter().for_each(|object| object.free(&alloc));
            },
        );
        alloc.quiesce().expect("the sleeper has left");
        assert_eq!(alloc.stats().taken.objects, 0);
    }
}

/// Stored into an object by the destructor of the next test.
const DESTROYED: u64 = 0xdead;

unsafe fn mark_destroyed(object: NonNull<u8>) {
    owner_of(object).store(DESTROYED, Ordering::Relaxed);
}

in_every_setup! {
    /// Sleepers are promised nothing under this policy, so neither `quiesce` nor the end of an
    /// allocator waits for them. Under any other policy `quiesce` returns an error, and the end is
    /// left to the domain.
    fn only_free_after_rcu_gp_ends_beside_sleepers<P>(setup) {
        let waits = P::KIND != PolicyKind::FreeAfterRcuGp;
        let domain = setup.domain();
        let backing = Arc::new(FailOnDemand::new(System));
        let builder = setup.builder::<P>().domain(domain.clone()).backing(Arc::clone(&backing));
        let alloc = builder.range_bytes(16 << 20).build().expect("an allocator");
        let guard = domain.pin_trace();
        (0..100).for_each(|_| Object::new(&alloc, layout(64, 1), 1).free_rcu(&alloc));
        assert_eq!(alloc.quiesce().is_err(), waits);
        drop(alloc);
        assert_eq!(Arc::strong_count(&backing) > 1, waits, "the allocator has ended or has not");
        drop(guard);
        domain.barrier().expect("no guard is left");
        domain.trace().barrier().expect("no guard is left");
        assert_eq!(Arc::strong_count(&backing), 1);
    }
}

in_every_setup! {
    /// A deferred object is allocated again only after its destructor has run, and a sleeper does
    /// not delay that.
    fn free_after_rcu_gp_reuses_through_the_slab_only<FreeAfterRcuGp>(setup) {
        const LIVE: u64 = 1;
        // SAFETY: every object is at least a word, and words are their only use.
        let builder = unsafe { setup.builder::<P>().destructor(mark_destroyed) };
        let alloc = builder.build().expect("an allocator");
        let layout = layout(512, 8);
        let mut seen = HashSet::new();
        let mut reused = 0;
        behind(
            || alloc.domain().pin_trace(),
            || {
                for _ in 0..20 {
                    let mut taken = Vec::new();
                    for _ in 0..300 {
                        let object = alloc.alloc(layout).expect("memory").cast::<u8>();
                        let before = owner_of(object).swap(LIVE, Ordering::Relaxed);
                        if !seen.insert(object) {
                            assert_ne!(before, LIVE, "it was not destroyed");
                            reused += 1;
                        }
                        taken.push(object);
                    }
                    let before = alloc.stats();
                    for object in taken {
                        // SAFETY: allocated above with this layout, and given up here.
                        unsafe { alloc.free(object, layout) };
                    }
                    let cached = alloc.stats().cached.objects;
                    assert!(cached <= before.cached.objects, "freed to be allocated at once");
                    alloc.trim();
                }
            },
        );
        assert!(reused > 1_000, "{reused} of 6,000 objects came back");
        alloc.quiesce().expect("no guard is held");
        adds_up(&alloc.stats(), 0);
    }
}

/// An object that a reader found, on its way to another thread.
struct Found<'d> {
    guard: TraceGuard<'d>,
    object: NonNull<u8>,
    number: u64,
}

// SAFETY: the guard goes with the object, which it protects.
unsafe impl Send for Found<'_> {}

in_every_setup! {
    /// One thread finds objects, another checks them and ends the sections, while a third replaces
    /// them.
    fn an_object_stays_while_its_guard_moves_between_threads<AfterTasksTraceGp>(setup) {
        const FOUND: u64 = 1_500;
        let alloc = &setup.allocator::<P>();
        let layout = layout(64, 8);
        let numbers = AtomicU64::new(1);
        let new_object = || {
            let object = alloc.alloc(layout).expect("memory").cast::<u8>();
            owner_of(object).store(numbers.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            object.as_ptr()
        };
        let link = &AtomicPtr::new(new_object());
        let (give, take) = std::sync::mpsc::sync_channel::<Found<'_>>(8);
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..FOUND {
                    let guard = alloc.domain().pin_trace();
                    let object = link.load(Ordering::Acquire);
                    let object = NonNull::new(object).expect("the link is never empty");
                    let number = owner_of(object).load(Ordering::Relaxed);
                    give.send(Found { guard, object, number }).expect("a receiver");
                }
            });
            let looker = scope.spawn(move || {
                for Found { guard, object, number } in take {
                    for _ in 0..3 {
                        assert_eq!(owner_of(object).load(Ordering::Relaxed), number, "reused");
                        thread::yield_now();
                    }
                    drop(guard);
                }
            });
            while !looker.is_finished() {
                let old = link.swap(new_object(), Ordering::AcqRel);
                let old = NonNull::new(old).expect("the link is never empty");
                // SAFETY: unlinked by the swap, allocated with this layout.
                unsafe { alloc.free(old, layout) };
                alloc.domain().trace().advance(alloc.domain().trace().start_poll());
            }
        });
        adds_up(&alloc.stats(), 1);
        let last = NonNull::new(link.load(Ordering::Relaxed)).expect("the link is never empty");
        // SAFETY: all threads are done.
        unsafe { alloc.free(last, layout) };
        alloc.quiesce().expect("no guard is held");
        assert_eq!(alloc.stats().taken.objects, 0);
    }
}
