//! How allocators, caches and values end.
#![cfg(not(loom))]

mod common;

use common::{Object, Setup, adds_up, behind, held_bytes, in_every_setup, layout};
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{Domain, SynchronizeError};
use memalloc::{AfterRcuGp, Cache, MemAlloc, PolicyKind, ProtectsIdentity};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

in_every_setup! {
    fn destroy_tells_what_was_never_freed<P>(setup) {
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
        // What leaked stays mapped, with its contents.
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

/// Counts its drops, each only once.
#[derive(Debug)]
struct Counted {
    dropped: AtomicU64,
    all: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(self.dropped.fetch_add(1, Ordering::Relaxed), 0, "dropped twice");
        self.all.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted(all: &Arc<AtomicUsize>) -> Counted {
    Counted { dropped: AtomicU64::new(0), all: all.clone() }
}

in_every_setup! {
    /// Values are dropped on several threads, by frees, allocations and the end of the cache:
    /// each once, and none before the section that was open when it was freed.
    fn values_are_dropped_once_each_and_not_inside_a_section<ProtectsIdentity>(setup) {
        const VALUES: usize = 4_000;
        let all = Arc::new(AtomicUsize::new(0));
        let cache = setup.cache_builder::<Counted, P>().build().expect("a cache");
        let value = || cache.alloc(counted(&all)).expect("memory").into_raw();

        let guard = cache.domain().pin();
        for _ in 0..VALUES {
            let value = value();
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value) };
        }
        assert_eq!(all.load(Ordering::Relaxed), 0, "dropped inside the section");
        drop(guard);

        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 0..VALUES {
                        let guard = (n % 7 == 0).then(|| cache.domain().pin());
                        let value = value();
                        // SAFETY: found only here, freed once.
                        unsafe { cache.free_raw(value) };
                        if guard.is_some() {
                            // SAFETY: freed inside this section, so it is still there.
                            let dropped = unsafe { value.as_ref() }.dropped.load(Ordering::Relaxed);
                            assert_eq!(dropped, 0, "dropped inside the section");
                        }
                    }
                });
            }
        });
        adds_up(&cache.stats(), 0);
        cache.quiesce().expect("no guard is left");
        assert_eq!(all.load(Ordering::Relaxed), 4 * VALUES, "quiesce leaves none");

        drop(cache.alloc(counted(&all)).expect("memory"));
        assert_eq!(all.load(Ordering::Relaxed), 4 * VALUES + 1, "a box drops its value at once");

        let kept = value();
        let freed = value();
        // SAFETY: never published, freed once.
        unsafe { cache.free_raw(freed) };
        let report = cache.destroy().unwrap_err();
        assert_eq!(report.stats.live.objects, 1);
        assert_eq!(all.load(Ordering::Relaxed), 4 * VALUES + 2, "all but the one that leaked");
        // SAFETY: it leaked, so it is still there.
        assert_eq!(unsafe { kept.as_ref() }.dropped.load(Ordering::Relaxed), 0);
    }
}

in_every_setup! {
    /// Whoever drops a cache inside a section can't wait: the domain ends it later, also when
    /// the cache was the last to use the domain.
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

/// Calls `work` while this thread holds a guard that may sleep and that another thread made, and a third
/// thread sits in a section of `domain`.
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
    /// Neither for the guard in its own hands, which it can't know of, nor for others. The test hangs
    /// where it does. What is left ends when the guards have gone and another allocator does.
    fn dropping_waits_for_nobody_and_the_domain_ends_what_is_left<ProtectsIdentity>(setup) {
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
            assert_eq!(domain.stats().callbacks, ENDINGS, "what was never used just ends");
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
    /// The test hangs where it waits.
    fn what_was_never_used_waits_for_nobody<P>(setup) {
        let domain = setup.domain();
        beside_any_guard(&domain, || {
            let alloc = setup.allocator_in::<P>(&domain);
            alloc.quiesce().expect("there is nothing to wait for");
            alloc.destroy().expect("nothing leaked");
        });
    }
}

in_every_setup! {
    fn an_end_with_a_limit_gives_up_and_says_for_whom_it_waited<P>(setup) {
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
        alloc.quiesce_timeout(Duration::from_secs(60)).expect("nobody is left");
        assert_eq!(alloc.destroy().expect("nothing leaked").taken.objects, 0);
    }
}

in_every_setup! {
    /// Far less is freed than makes a grace period worth its price while there are readers.
    fn values_are_dropped_while_little_is_freed_now_and_then<ProtectsIdentity>(setup) {
        let all = Arc::new(AtomicUsize::new(0));
        let cache = setup.cache_builder::<Counted, P>().build().expect("a cache");
        let free_some = |values: usize| (0..values).for_each(|_| {
            let value = cache.alloc(counted(&all)).expect("memory").into_raw();
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value) };
        });
        behind(|| cache.domain().local(), || {
            // At first it is looked at once. What is freed then is behind that.
            free_some(100);
            let before = all.load(Ordering::Relaxed);
            // 30 KiB in the end.
            for _ in 0..40 {
                thread::sleep(Duration::from_millis(20));
                free_some(48);
                if all.load(Ordering::Relaxed) > before {
                    return;
                }
            }
            panic!("not one of 2,000 values was dropped");
        });
    }
}

/// What a hook of the next two tests has seen; they take turns.
static SEEN: AtomicUsize = AtomicUsize::new(0);
static TURN: Mutex<()> = Mutex::new(());

unsafe fn count_and_clear(object: NonNull<u8>) {
    // SAFETY: the objects of these tests hold a number, and the hook alone has them.
    let number = unsafe { object.cast::<u64>().replace(0) };
    assert_ne!(number, 0, "seen twice, or never initialised");
    SEEN.fetch_add(1, Ordering::Relaxed);
}

unsafe fn count(object: NonNull<u8>) {
    // SAFETY: as above, and it is only read.
    assert_eq!(unsafe { object.cast::<u8>().read() }, 9);
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// The finalizer is for deferred objects only, whichever policy says so.
#[test]
fn a_finalizer_runs_for_deferred_objects_only() {
    let _turn = TURN.lock();
    fn check<P: memalloc::ReusePolicy>(setup: &Setup) {
        // SAFETY: every object that is deferred below holds a number that is not zero.
        let builder = unsafe { setup.builder::<P>().finalizer(count_and_clear) };
        let alloc = builder.build().expect("an allocator");
        let layout = layout(8, 8);
        let before = SEEN.load(Ordering::Relaxed);
        let object = || Object::new(&alloc, layout, 9);
        (0..100).for_each(|_| object().free_unshared(&alloc));
        (0..100).for_each(|_| object().free_rcu(&alloc));
        (0..100).for_each(|_| object().free(&alloc));
        let leaked = object();
        assert_eq!(alloc.destroy().unwrap_err().stats.live.objects, 1);
        leaked.check();
        let deferred = if P::KIND == PolicyKind::Immediate { 100 } else { 200 };
        assert_eq!(SEEN.load(Ordering::Relaxed) - before, deferred);
    }
    for setup in Setup::every() {
        check::<memalloc::Immediate>(&setup);
        check::<AfterRcuGp>(&setup);
        check::<memalloc::FreeAfterRcuGp>(&setup);
        check::<memalloc::AfterTasksTraceGp>(&setup);
    }
}

/// However an object was freed, and whether the allocator is told to or ends: what goes back to
/// its slab is destroyed first, and what is kept is not.
#[test]
fn a_destructor_runs_for_every_object_that_goes_back_to_its_slab() {
    let _turn = TURN.lock();
    fn check<P: memalloc::ReusePolicy>(setup: &Setup) {
        // SAFETY: the hook is right for every object that was written to, and all are.
        let builder = unsafe { setup.builder::<P>().destructor(count) };
        let batch = memalloc::Class {
            size: 16,
            watermarks: memalloc::Watermarks { low: 0, high: 1, batch: 1, reserve: 0 },
        };
        let classes = memalloc::ClassTable::with_watermarks(&[batch]).expect("a table");
        let alloc = builder.classes(classes).build().expect("an allocator");
        let layout = layout(8, 8);
        let before = SEEN.load(Ordering::Relaxed);
        let objects: Vec<_> = (0..99).map(|_| Object::new(&alloc, layout, 9)).collect();
        assert_eq!(SEEN.load(Ordering::Relaxed), before, "none went back");
        for (number, object) in objects.into_iter().enumerate() {
            match number % 3 {
                0 => object.free(&alloc),
                1 => object.free_rcu(&alloc),
                _ => object.free_unshared(&alloc),
            }
        }
        let returned = alloc.quiesce().expect("this thread does not read").objects;
        let destroyed = SEEN.load(Ordering::Relaxed) - before;
        assert!(destroyed as u64 >= returned && destroyed >= 99, "{destroyed} of 99");
        let (live, cached) = (Object::new(&alloc, layout, 9), Object::new(&alloc, layout, 9));
        cached.free(&alloc);
        drop(alloc);
        assert_eq!(SEEN.load(Ordering::Relaxed) - before, destroyed + 1, "all but the live one");
        live.check();
    }
    for setup in Setup::every() {
        check::<memalloc::Immediate>(&setup);
        check::<AfterRcuGp>(&setup);
        check::<memalloc::FreeAfterRcuGp>(&setup);
        check::<memalloc::AfterTasksTraceGp>(&setup);
    }
}

unsafe fn refuse(_: NonNull<u8>) {
    panic!("a hook that panics");
}

in_every_setup! {
    /// Somebody may still hold an object, or look at one: its memory stays when a hook panics while
    /// the allocator ends, and when the end that the domain was to make is never made.
    fn an_end_that_a_panic_cuts_short_takes_no_memory_away<P>(setup) {
        let build = |domain: &Domain| {
            let backing = Arc::new(FailOnDemand::new(System));
            // SAFETY: the hook does nothing to objects.
            let builder = unsafe { setup.builder::<P>().destructor(refuse) };
            let builder = builder.backing(Arc::clone(&backing)).range_bytes(16 << 20);
            (builder.domain(domain.clone()).build().expect("an allocator"), backing)
        };
        let stays = |backing: &Arc<FailOnDemand<System>>| Arc::strong_count(backing) > 1;
        let panics = |work: &dyn Fn()| catch_unwind(AssertUnwindSafe(work)).is_err();

        let domain = setup.domain();
        let (alloc, backing) = build(&domain);
        let (live, alloc) = (Object::new(&alloc, layout(64, 1), 1), Cell::new(Some(alloc)));
        assert!(panics(&|| drop(alloc.take())), "the hook is called for what was carved with it");
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

#[test]
fn a_value_may_own_objects_of_its_own_cache() {
    /// A list whose tail is freed by the drop of its head.
    struct Link {
        next: Option<NonNull<Link>>,
        cache: &'static Cache<Link>,
        all: Arc<AtomicUsize>,
    }
    // SAFETY: a link owns what its pointer names.
    unsafe impl Send for Link {}
    // SAFETY: nobody reads through a shared link.
    unsafe impl Sync for Link {}
    impl Drop for Link {
        fn drop(&mut self) {
            self.all.fetch_add(1, Ordering::Relaxed);
            if let Some(next) = self.next {
                // SAFETY: the link owned it, and is dropped once.
                unsafe { self.cache.free_raw(next) };
            }
        }
    }
    let cache = Cache::<Link>::builder().domain(Domain::new()).build().expect("a cache");
    let cache: &'static Cache<Link> = Box::leak(Box::new(cache));
    let all = Arc::new(AtomicUsize::new(0));
    let mut next = None;
    for _ in 0..1_000 {
        let Ok(link) = cache.alloc(Link { next, cache, all: all.clone() }) else {
            panic!("memory")
        };
        next = Some(link.into_raw());
    }
    // SAFETY: never published, freed once.
    unsafe { cache.free_raw(next.expect("there are links")) };
    // Each grace period frees the next link. One call goes on to the last.
    cache.quiesce().expect("no guard is left");
    assert_eq!(all.load(Ordering::Relaxed), 1_000);
    adds_up(&cache.stats(), 0);
}

in_every_setup! {
    /// An allocator may be shared, moved, and dropped last by any thread.
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
        threads.into_iter().for_each(|thread| thread.join().expect("it ends in peace"));
        assert_eq!(Arc::strong_count(&backing), 1, "its memory is gone");
    }
}

/// A value with two others of its cache below it, which its drop frees.
struct Tree {
    below: [Option<NonNull<Tree>>; 2],
    dropped: &'static AtomicUsize,
    panics: bool,
    cache: &'static (dyn Fn(NonNull<Tree>) + Sync),
}

// SAFETY: a node owns what its pointers name.
unsafe impl Send for Tree {}
// SAFETY: nobody reads through a shared node.
unsafe impl Sync for Tree {}

thread_local!(static IN_ALLOC: Cell<bool> = const { Cell::new(false) });

impl Drop for Tree {
    fn drop(&mut self) {
        assert!(!IN_ALLOC.get(), "dropped by an allocation");
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.below.into_iter().flatten().for_each(self.cache);
        assert!(!self.panics, "a value that panics");
    }
}

/// A cache of trees for good, and how to free in it.
fn trees<P: ProtectsIdentity>(
    builder: memalloc::Builder<P, Cache<Tree, P>>,
) -> (&'static Cache<Tree, P>, &'static (dyn Fn(NonNull<Tree>) + Sync)) {
    let cache: &'static _ = Box::leak(Box::new(builder.build().expect("a cache")));
    // SAFETY: each is freed once, by its owner.
    let free = move |tree: NonNull<Tree>| unsafe { Cache::<Tree, P>::free_raw(cache, tree) };
    (cache, Box::leak(Box::new(free)))
}

in_every_setup! {
    /// On a stack of 64 KiB, a tree of 100,000 values and a chain of as many, whose drops free what is
    /// below them; none of them in an allocation.
    fn what_destructors_free_takes_no_stack_and_no_allocation_runs_them<ProtectsIdentity>(setup) {
        const VALUES: usize = 100_000;
        let (cache, free) = trees::<P>(setup.cache_builder());
        let dropped: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        let new = |below| {
            IN_ALLOC.set(true);
            let node = cache.alloc(Tree { below, dropped, panics: false, cache: free });
            IN_ALLOC.set(false);
            let Ok(node) = node else { panic!("memory") };
            node.into_raw()
        };
        let work = || {
            let mut level: Vec<_> = (0..VALUES / 2).map(|_| new([None; 2])).collect();
            while level.len() > 1 {
                let pairs = level.chunks(2);
                level = pairs.map(|two| new([Some(two[0]), two.get(1).copied()])).collect();
            }
            free(level[0]);
            for _ in 0..VALUES {
                // Some of the tree is freed meanwhile, and allocated again.
                free(new([None; 2]));
            }
            cache.quiesce().expect("no guard is left");
        };
        thread::scope(|scope| {
            let small = thread::Builder::new().stack_size(64 << 10);
            small.spawn_scoped(scope, work).expect("a thread").join().expect("it does not panic");
        });
        assert!(dropped.load(Ordering::Relaxed) >= 2 * VALUES - 100);
        adds_up(&cache.stats(), 0);
    }
}

in_every_setup! {
    /// One in a thousand values panics when it is dropped; every other is dropped all the same, the
    /// panic goes on afterwards, and the counts stay true.
    fn a_value_that_panics_loses_no_other<ProtectsIdentity>(setup) {
        const VALUES: usize = 3_000;
        let (cache, free) = trees::<P>(setup.cache_builder());
        let dropped: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        let mut panics = 0;
        for n in 0..VALUES {
            let node = Tree { below: [None; 2], dropped, panics: n % 1_000 == 500, cache: free };
            let Ok(node) = cache.alloc(node) else { panic!("memory") };
            let node = node.into_raw();
            panics += usize::from(catch_unwind(AssertUnwindSafe(|| free(node))).is_err());
        }
        while catch_unwind(AssertUnwindSafe(|| cache.quiesce().expect("no guard"))).is_err() {
            panics += 1;
        }
        assert_eq!(dropped.load(Ordering::Relaxed), VALUES);
        assert!((1..=3).contains(&panics), "{panics} panics went on");
        adds_up(&cache.stats(), 0);
    }
}

in_every_setup! {
    /// A callback that panics keeps no other from being run; what a callback queues runs behind it; one
    /// that owns its domain runs when nobody else has it.
    fn callbacks_lose_nothing_and_do_not_pile_up(setup) {
        let domain = setup.domain();
        let ran = Arc::new(AtomicUsize::new(0));
        for n in 0..100 {
            let ran = ran.clone();
            domain.call(move || {
                ran.fetch_add(1, Ordering::Relaxed);
                assert!(n != 70, "a callback that panics");
            });
        }
        _ = catch_unwind(AssertUnwindSafe(|| domain.barrier()));
        assert_eq!(ran.load(Ordering::Relaxed), 100);

        /// Queues itself so many times more.
        fn again(domain: Domain, left: usize, ran: Arc<AtomicUsize>) {
            thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });
            assert_eq!(DEPTH.replace(1), 0, "inside another");
            ran.fetch_add(1, Ordering::Relaxed);
            if left > 0 {
                let own = domain.clone();
                domain.call(move || again(own, left - 1, ran));
            }
            domain.run_callbacks();
            DEPTH.set(0);
        }
        let (own, also) = (domain.clone(), ran.clone());
        domain.call(move || again(own, 1_000, also));
        drop(domain);
        assert_eq!(ran.load(Ordering::Relaxed), 1_101);
    }
}
