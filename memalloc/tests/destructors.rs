//! The code of a user that runs after a free: destructors of values, finalizers, callbacks.
#![cfg(not(loom))]

mod common;
#[path = "common/leak.rs"]
mod leak;

use common::{Counted, Object, adds_up, behind, counted, in_every_setup, layout};
use leak::leak;
use memalloc::rcu::Domain;
use memalloc::{Cache, PolicyKind, ProtectsIdentity, Worker};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

in_every_setup! {
    /// Values are dropped on several threads, by frees, allocations and the end of the cache: each
    /// once, and none before the end of the section that was open when it was freed.
    fn values_are_dropped_once_each_and_not_inside_a_section<ProtectsIdentity>(setup) {
        const VALUES: usize = 4_000;
        let all = leak(Arc::new(AtomicUsize::new(0)));
        let cache = setup.cache_builder::<Counted, P>().build().expect("a cache");
        let value = || cache.alloc(counted(all)).expect("memory").into_raw();

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

        drop(cache.alloc(counted(all)).expect("memory"));
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
    /// Far less is freed than makes a grace period worth its cost while there are readers.
    fn values_are_dropped_while_little_is_freed_now_and_then<ProtectsIdentity>(setup) {
        let all = Arc::new(AtomicUsize::new(0));
        let cache = setup.cache_builder::<Counted, P>().build().expect("a cache");
        let free_some = |values: usize| (0..values).for_each(|_| {
            let value = cache.alloc(counted(&all)).expect("memory").into_raw();
            // SAFETY: never published, freed once.
            unsafe { cache.free_raw(value) };
        });
        behind(|| cache.domain().local(), || {
            // The first free checks at once. The objects freed then are already handled.
            free_some(100);
            let before = all.load(Ordering::Relaxed);
            // 30 KiB in total.
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

/// The number of objects that a hook of the next two tests has seen; the tests run one at a time.
static SEEN: AtomicUsize = AtomicUsize::new(0);
static TURN: Mutex<()> = Mutex::new(());

unsafe fn count_and_clear(object: NonNull<u8>) {
    // SAFETY: the objects of these tests hold a number, and only the hook has them.
    let number = unsafe { object.cast::<u64>().replace(0) };
    assert_ne!(number, 0, "seen twice, or never initialised");
    SEEN.fetch_add(1, Ordering::Relaxed);
}

unsafe fn count(object: NonNull<u8>) {
    // SAFETY: as above, and it is only read.
    assert_eq!(unsafe { object.cast::<u8>().read() }, 9);
    SEEN.fetch_add(1, Ordering::Relaxed);
}

in_every_setup! {
    /// The finalizer runs only for deferred objects, under every policy.
    fn a_finalizer_runs_for_deferred_objects_only<P>(setup) {
        let _turn = TURN.lock();
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
}

in_every_setup! {
    /// Every object that returns to its slab is destroyed first, however it was freed, and whether
    /// the allocator quiesces or ends. An object that is kept is not destroyed.
    fn a_destructor_runs_for_every_object_that_goes_back_to_its_slab<P>(setup) {
        let _turn = TURN.lock();
        // SAFETY: the hook is sound for every object that was written to, and all are.
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
}

#[test]
fn a_value_may_own_objects_of_its_own_cache() {
    /// A list whose tail is freed by the drop of its head.
    struct Link {
        next: Option<NonNull<Link>>,
        cache: &'static Cache<Link>,
        all: Arc<AtomicUsize>,
    }
    // SAFETY: a link owns the object that its pointer names.
    unsafe impl Send for Link {}
    // SAFETY: no thread reads through a shared link.
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
    let cache = leak(Cache::<Link>::builder().domain(Domain::new()).build().expect("a cache"));
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
    // Each grace period frees the next link. One call continues to the last.
    cache.quiesce().expect("no guard is left");
    assert_eq!(all.load(Ordering::Relaxed), 1_000);
    adds_up(&cache.stats(), 0);
}

/// A value that owns two others of its cache and frees them in its drop.
struct Tree {
    below: [Option<NonNull<Tree>>; 2],
    dropped: &'static AtomicUsize,
    panics: bool,
    cache: &'static (dyn Fn(NonNull<Tree>) + Sync),
}

// SAFETY: a node owns the objects that its pointers name.
unsafe impl Send for Tree {}
// SAFETY: no thread reads through a shared node.
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

/// Returns a leaked cache of trees, and the function that frees in it.
fn trees<P: ProtectsIdentity>(
    builder: memalloc::Builder<P, Cache<Tree, P>>,
) -> (&'static Cache<Tree, P>, &'static (dyn Fn(NonNull<Tree>) + Sync)) {
    let cache = leak(builder.build().expect("a cache"));
    // SAFETY: each is freed once, by its owner.
    let free = move |tree: NonNull<Tree>| unsafe { Cache::<Tree, P>::free_raw(cache, tree) };
    (cache, leak(free))
}

in_every_setup! {
    /// On a stack of 64 KiB, a tree of 100,000 values and a chain of as many, whose drops free the
    /// values below them. None of the drops runs in an allocation.
    fn frees_in_destructors_take_no_stack_and_no_allocation_runs_destructors<ProtectsIdentity>(setup) {
        const VALUES: usize = 100_000;
        let (cache, free) = trees::<P>(setup.cache_builder());
        let dropped = leak(AtomicUsize::new(0));
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
                // Some objects of the tree are freed meanwhile, and allocated again.
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
    /// One in a thousand values panics when it is dropped. Every other value is still dropped, the
    /// panic resumes afterwards, and the counts stay correct.
    fn a_value_that_panics_loses_no_other<ProtectsIdentity>(setup) {
        const VALUES: usize = 3_000;
        let (cache, free) = trees::<P>(setup.cache_builder());
        let dropped = leak(AtomicUsize::new(0));
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
    /// A callback that panics does not keep others from running. A callback queued by a callback
    /// runs after it. A callback that owns its domain runs when it has the last clone.
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

        /// Queues itself `left` more times.
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

in_every_setup! {
    /// A few values, whose batch no other free ever fills.
    fn values_of_a_batch_that_is_never_filled_are_dropped_without_a_further_free<ProtectsIdentity>(setup) {
        type Rest<P> = fn(&Arc<Cache<Counted, P>>, &dyn Fn() -> bool);
        let tend: Rest<P> = |cache, _| (0..2).for_each(|_| cache.tend());
        let trim: Rest<P> = |cache, _| _ = cache.trim();
        let quiesce: Rest<P> = |cache, _| _ = cache.quiesce().expect("no guard is left");
        let work: Rest<P> = |cache, done| {
            let worker = Worker::every(Duration::from_millis(1)).cache(cache).start();
            let begun = Instant::now();
            while !done() && begun.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_millis(1));
            }
            drop(worker.expect("a thread"));
        };
        for rest in [tend, trim, quiesce, work] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let cache = Arc::new(setup.cache_builder::<Counted, P>().build().expect("a cache"));
            let guard = cache.domain().pin();
            for _ in 0..3 {
                let value = cache.alloc(counted(&dropped)).expect("memory").into_raw();
                // SAFETY: never published, freed once.
                unsafe { cache.free_raw(value) };
            }
            drop(guard);
            assert_eq!(dropped.load(Ordering::Relaxed), 0, "the batch is not full");
            rest(&cache, &|| dropped.load(Ordering::Relaxed) == 3);
            assert_eq!(dropped.load(Ordering::Relaxed), 3);
            adds_up(&cache.stats(), 0);
        }
    }
}

in_every_setup! {
    /// The queue of the domain holds the callback, and the callback holds the domain.
    fn a_callback_that_owns_its_domain_runs(setup) {
        let domain = setup.domain();
        let ran = Arc::new(AtomicUsize::new(0));
        for flavour in 0..2 {
            let (own, ran) = (domain.clone(), ran.clone());
            let callback = move || {
                ran.fetch_add(1, Ordering::Relaxed);
                drop(own);
            };
            if flavour == 0 { domain.rcu().call(callback) } else { domain.trace().call(callback) }
        }
        drop(domain);
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    }
}
