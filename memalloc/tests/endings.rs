//! The end of allocators and caches.
#![cfg(not(loom))]

mod common;
#[path = "common/leak.rs"]
mod leak;

use common::{
    Counted, Object, Pages, adds_up, behind, counted, held_bytes, in_every_setup, layout,
};
use leak::leak;
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{Domain, SynchronizeError};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, Cache, MemAlloc};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

in_every_setup! {
    fn destroy_reports_objects_that_were_never_freed<P>(setup) {
        let alloc = setup.allocator::<P>();
        let kept = [Object::new(&alloc, layout(100, 1), 1), Object::new(&alloc, layout(64, 1), 2)];
        for pattern in 0..200 {
            Object::new(&alloc, layout(100, 1), pattern).free_rcu(&alloc);
        }
        let report = alloc.destroy().unwrap_err();
        assert_eq!((report.stats.live.objects, report.stats.live.bytes), (2, 128 + 64));
        assert_eq!(report.stats.pending.objects, 0);
        let text = report.to_string();
        for part in ["2 objects (192 bytes)", "1 of 64 bytes", "1 of 128 bytes"] {
            assert!(text.contains(part), "{text}");
        }
        // Leaked objects stay mapped, with their contents.
        kept.iter().for_each(Object::check);
    }
}

in_every_setup! {
    fn destroy_without_leaks_ends_with_all_numbers_zero<P>(setup) {
        let alloc = setup.allocator::<P>();
        let objects: Vec<_> =
            (0..3_000).map(|n| Object::new(&alloc, layout(n % 4097, 1), 1)).collect();
        objects.into_iter().for_each(|object| object.free(&alloc));
        let stats = alloc.destroy().expect("everything was freed");
        adds_up(&stats, 0);
        assert_eq!((stats.taken.objects, stats.slabs, held_bytes(&stats)), (0, 0, 0));
    }
}

in_every_setup! {
    fn destroy_inside_a_section_reports_what_is_pending<P>(setup) {
        let domain = setup.domain();
        let alloc = setup.allocator_in::<P>(&domain);
        let guard = domain.pin();
        Object::new(&alloc, layout(64, 1), 1).free_rcu(&alloc);
        let report = alloc.destroy().unwrap_err();
        assert_eq!((report.stats.live.objects, report.stats.pending.objects), (0, 1));
        assert!(report.to_string().contains("1 still waits"), "{report}");
        drop(guard);
        domain.barrier().expect("no guard is left");
        assert_eq!(domain.stats().callbacks, 0);

        // With nothing pending there is nothing to report.
        let guard = domain.pin();
        setup.allocator_in::<P>(&domain).destroy().expect("nothing leaked");
        drop(guard);
    }
}

in_every_setup! {
    /// A thread that drops a cache inside a section cannot wait: the domain ends the cache later,
    /// also if the cache was the last to use the domain.
    fn dropping_inside_a_section_leaves_the_end_to_the_callbacks<ProtectsIdentity>(setup) {
        let all = Arc::new(AtomicUsize::new(0));
        let domain = setup.domain();
        let guard = domain.pin();
        for values in 1..=3 {
            let builder = setup.cache_builder::<Counted, P>().domain(domain.clone());
            let cache = builder.build().expect("a cache");
            for _ in 0..values {
                let value = cache.alloc(counted(&all)).expect("memory").into_raw();
                // SAFETY: never published, freed once.
                unsafe { cache.free_raw(value) };
            }
        }
        assert_eq!(domain.run_callbacks(), 0);
        assert_eq!((domain.stats().callbacks, all.load(Ordering::Relaxed)), (3, 0));
        drop(guard);
        drop(domain);
        assert_eq!(all.load(Ordering::Relaxed), 6);
    }
}

/// Calls `work` while this thread holds a sleepable guard that another thread made, and a third
/// thread is inside a section of `domain`.
fn beside_any_guard(domain: &Domain, work: impl FnOnce()) {
    behind(
        || domain.pin(),
        || {
            let moved = thread::scope(|scope| scope.spawn(|| domain.pin_trace()).join());
            work();
            drop(moved.expect("it does not panic"));
        },
    );
}

in_every_setup! {
    /// The drop waits neither for the guard that this thread holds, which it cannot know of, nor
    /// for others. The test hangs if it waits. The remaining caches end when the guards are gone
    /// and another cache ends.
    fn dropping_a_cache_never_blocks_and_the_domain_ends_it_later<ProtectsIdentity>(setup) {
        const ENDINGS: usize = 20;
        let all = Arc::new(AtomicUsize::new(0));
        let domain = setup.domain();
        let backing = Arc::new(FailOnDemand::new(System));
        let build = || {
            let builder = setup.cache_builder::<Counted, P>().domain(domain.clone());
            let builder = builder.range_bytes(16 << 20).backing(Arc::clone(&backing));
            builder.build().expect("a cache")
        };
        let use_it = |cache: &Cache<Counted, P>| {
            let value = cache.alloc(counted(&all)).expect("memory").into_raw();
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value) };
        };
        beside_any_guard(&domain, || {
            for _ in 0..ENDINGS {
                let cache = build();
                use_it(&cache);
                drop(cache);
                drop(build());
            }
            assert_eq!(all.load(Ordering::Relaxed), 0, "a reader is inside");
            assert_eq!(domain.stats().callbacks, ENDINGS, "unused caches end at once");
        });
        for most_left in [ENDINGS, 0] {
            let cache = build();
            use_it(&cache);
            drop(cache);
            let callbacks = domain.stats().callbacks + domain.trace().stats().callbacks;
            assert!(callbacks <= most_left, "{callbacks} left");
        }
        assert_eq!(all.load(Ordering::Relaxed), ENDINGS + 2);
        assert_eq!(Arc::strong_count(&backing), 1, "all memory is gone");
    }
}

in_every_setup! {
    /// The test hangs if it waits.
    fn an_unused_allocator_ends_without_waiting<P>(setup) {
        let domain = setup.domain();
        beside_any_guard(&domain, || {
            let alloc = setup.allocator_in::<P>(&domain);
            alloc.quiesce().expect("there is nothing to wait for");
            alloc.destroy().expect("nothing leaked");
        });
    }
}

in_every_setup! {
    fn an_end_with_a_timeout_gives_up_and_names_the_reader<P>(setup) {
        const LIMIT: Duration = Duration::from_millis(2);
        let domain = setup.domain();
        let build = || {
            let alloc = setup.allocator_in::<P>(&domain);
            Object::new(&alloc, layout(64, 1), 1).free_rcu(&alloc);
            alloc
        };
        let alloc = build();
        behind(|| domain.pin(), || {
            let Err(SynchronizeError::TimedOut { reader: Some(reader) }) = alloc.quiesce_timeout(LIMIT)
            else {
                panic!("a reader is inside");
            };
            assert_eq!(reader.thread_name().as_deref(), Some("sitter"));
            let report = build().destroy_timeout(LIMIT).expect_err("a reader is inside");
            assert_eq!((report.stats.live.objects, report.stats.pending.objects), (0, 1));
            let name = report.reader.and_then(|reader| reader.thread_name());
            assert_eq!(name.as_deref(), Some("sitter"), "{report}");
            assert!(report.to_string().contains("(sitter)"), "{report}");
        });
        alloc.quiesce_timeout(Duration::from_secs(60)).expect("no reader is left");
        assert_eq!(alloc.destroy().expect("nothing leaked").taken.objects, 0);
    }
}

unsafe fn refuse(_: NonNull<u8>) {
    panic!("a hook that panics");
}

in_every_setup! {
    /// An object may still be held or read. So its memory stays if a hook panics while the
    /// allocator ends, and if the end that was left to the domain never happens.
    fn an_allocator_whose_end_panics_keeps_its_memory<P>(setup) {
        // Lost memory of the heap would be reported as a leak.
        let build = |domain: &Domain| {
            let backing = Arc::new(FailOnDemand::new(Pages::default()));
            // SAFETY: the hook does nothing to objects.
            let builder = unsafe { setup.builder::<P>().destructor(refuse) };
            let builder = builder.backing(Arc::clone(&backing)).range_bytes(16 << 20);
            (builder.domain(domain.clone()).build().expect("an allocator"), backing)
        };
        let stays = |backing: &Arc<FailOnDemand<Pages>>| Arc::strong_count(backing) > 1;
        let panics = |work: &dyn Fn()| catch_unwind(AssertUnwindSafe(work)).is_err();

        let domain = setup.domain();
        let (alloc, backing) = build(&domain);
        let (live, alloc) = (Object::new(&alloc, layout(64, 1), 1), Cell::new(Some(alloc)));
        assert!(panics(&|| drop(alloc.take())), "the hook runs for the rest of the batch");
        assert!(stays(&backing));
        live.check();

        let (alloc, backing) = build(&domain);
        let live = Object::new(&alloc, layout(64, 1), 2);
        let guard = domain.pin();
        domain.call(|| panic!("a callback that panics"));
        drop(alloc);
        drop(guard);
        let domain = Cell::new(Some(domain));
        assert!(panics(&|| drop(domain.take())), "the first callback panics, the next is run");
        assert!(stays(&backing));
        live.check();
    }
}

in_every_setup! {
    fn dropping_an_allocator_drains_its_own_objects_only<P>(setup) {
        let domain = setup.domain();
        let (ends, stays) = (setup.allocator_in::<P>(&domain), setup.allocator_in::<P>(&domain));
        let layout = layout(64, 1);
        let kept: Vec<_> = (0..100).map(|_| Object::new(&stays, layout, 1)).collect();
        for pattern in 0..20 {
            Object::new(&ends, layout, pattern).free_rcu(&ends);
            Object::new(&stays, layout, pattern).free_rcu(&stays);
        }
        let before = stays.stats();
        assert_eq!(before.pending.objects, 20);
        drop(ends);
        let after = stays.stats();
        assert_eq!((after.pending, after.cached), (before.pending, before.cached));
        kept.into_iter().for_each(|object| object.free(&stays));
        Object::new(&stays, layout, 1).free(&stays);
        stays.destroy().expect("nothing leaked");
    }
}

in_every_setup! {
    /// An allocator may be shared and moved, and any thread may be the last to drop it.
    fn the_last_owner_ends_the_allocator<P>(setup) {
        let backing = Arc::new(FailOnDemand::new(System));
        let builder = setup.builder::<P>().backing(Arc::clone(&backing)).range_bytes(16 << 20);
        let alloc: Arc<MemAlloc<P>> = Arc::new(builder.build().expect("an allocator"));
        let threads: Vec<_> = (0..4)
            .map(|pattern| {
                let alloc = alloc.clone();
                thread::spawn(move || {
                    let guard = alloc.domain().pin();
                    Object::new(&alloc, layout(32, 1), pattern).free(&alloc);
                    drop(guard);
                })
            })
            .collect();
        drop(alloc);
        threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        assert_eq!(Arc::strong_count(&backing), 1, "its memory is gone");
    }
}

/// Behind a reader of one flavour, each grace period of the other makes one more stamp of both,
/// more than a class has lists. What is freed while `quiesce` waits is pending afterwards, and only
/// that.
#[test]
fn quiesce_returns_all_that_was_freed_before_it_whatever_is_freed_meanwhile() {
    let domain = Domain::new();
    let alloc = MemAlloc::<AfterTasksTraceGp>::builder().domain(domain.clone()).build().unwrap();
    let free = || {
        Object::new(&alloc, layout(64, 1), 1).free_rcu(&alloc);
        alloc.tend();
    };
    let quiesced = AtomicBool::new(false);
    thread::scope(|scope| {
        // The first reader holds up one grace period, the second one the next.
        let reader = || {
            let (enter, leave) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
            let (entered, may_leave) = (enter.clone(), leave.clone());
            let domain = &domain;
            scope.spawn(move || {
                let guard = domain.pin_trace();
                entered.wait();
                may_leave.wait();
                drop(guard);
            });
            enter.wait();
            leave
        };
        let first = reader();
        free();
        let second = reader();
        for _ in 0..8 {
            free();
            domain.synchronize().unwrap();
        }
        let quiesce = scope.spawn(|| {
            alloc.quiesce().unwrap();
            quiesced.store(true, Ordering::Relaxed);
        });
        let pause = || thread::sleep(Duration::from_millis(50));
        pause();
        first.wait();
        pause();
        free();
        assert!(!quiesced.load(Ordering::Relaxed), "there is a reader");
        second.wait();
        quiesce.join().unwrap();
        let pending = alloc.stats().pending.objects;
        assert!(pending <= 1, "{pending} are pending, and one was freed meanwhile");
    });
    alloc.destroy().unwrap();
}

/// A value whose drop tells that it has begun, and waits until it may end.
struct Slow(Sender<()>, Receiver<()>);

// SAFETY: only the thread that drops it uses its channels.
unsafe impl Sync for Slow {}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.send(());
        let _ = self.1.recv();
    }
}

/// The first one is in a finalizer, with objects that are not back yet.
#[test]
fn a_quiesce_waits_while_another_one_holds_objects() {
    let cache = Cache::<Slow>::builder().domain(Domain::new()).build().expect("a cache");
    let ((tell, told), (let_go, may_go)) = (channel(), channel());
    let Ok(value) = cache.alloc(Slow(tell, may_go)) else { panic!("memory") };
    // SAFETY: never published, and freed once.
    unsafe { cache.free_raw(value.into_raw()) };
    thread::scope(|scope| {
        let first = scope.spawn(|| cache.quiesce());
        told.recv().expect("the value is dropped");
        let second = cache.quiesce_timeout(Duration::from_millis(1));
        assert_eq!(second, Err(SynchronizeError::TimedOut { reader: None }));
        let_go.send(()).expect("the value is waiting");
        assert!(first.join().expect("it does not panic").is_ok());
    });
    cache.quiesce().expect("no other one is left");
    assert_eq!(cache.stats().taken.objects, 0);
}

thread_local! {
    /// The allocator of the next test, and how many more objects its finalizer frees.
    static CHAIN: Cell<Option<&'static MemAlloc<AfterRcuGp>>> = const { Cell::new(None) };
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

unsafe fn free_another(_: NonNull<u8>) {
    if let Some(left) = LEFT.get().checked_sub(1) {
        LEFT.set(left);
        let alloc = CHAIN.get().expect("the test has set it");
        Object::new(alloc, layout(64, 1), 1).free(alloc);
    }
}

#[test]
fn quiesce_gives_up_in_time_also_while_finalizers_go_on_freeing() {
    const MANY: usize = 1_000;
    // SAFETY: the finalizer leaves the object alone.
    let builder = unsafe { MemAlloc::<AfterRcuGp>::builder().finalizer(free_another) };
    let alloc = leak(builder.domain(Domain::new()).build().expect("an allocator"));
    CHAIN.set(Some(alloc));
    LEFT.set(MANY);
    Object::new(alloc, layout(64, 1), 1).free(alloc);
    let gave_up = alloc.quiesce_timeout(Duration::ZERO);
    assert_eq!(gave_up, Err(SynchronizeError::TimedOut { reader: None }));
    assert!((1..MANY).contains(&LEFT.get()), "{} are left", LEFT.get());
    alloc.quiesce().expect("no guard is left");
    assert_eq!((LEFT.get(), alloc.stats().taken.objects), (0, 0));
    // The limit is over, but so is the work.
    Object::new(alloc, layout(64, 1), 1).free(alloc);
    alloc.quiesce_timeout(Duration::ZERO).expect("nothing is left");
    assert_eq!(alloc.stats().taken.objects, 0);
}
