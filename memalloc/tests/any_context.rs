//! The calls that are allowed in a signal handler do not call the global allocator.
#![cfg(not(loom))]

mod common;

use common::{Object, in_every_setup, layout, run_on};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Calls of the global allocator by this thread, while they are counted.
    static CALLS: Cell<Option<usize>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    CALLS.set(CALLS.get().map(|calls| calls + 1));
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Returns how many calls of the global allocator `work` makes.
fn calls_of(work: impl FnOnce()) -> usize {
    CALLS.set(Some(0));
    work();
    CALLS.take().expect("set above")
}

in_every_setup! {
    /// Frees turn full slabs into partial ones, partial ones into empty ones, and return empty ones
    /// to the system: no step may need memory for its tables.
    fn free_does_not_call_the_global_allocator<P>(setup) {
        let alloc = setup.builder::<P>().range_bytes(128 << 20).build().expect("an allocator");
        for size in [64, 4096] {
            for way in [Object::free, Object::free_rcu, Object::free_unshared] {
                let objects: Vec<_> =
                    (0..20_000).map(|_| Object::new(&alloc, layout(size, 1), 1)).collect();
                let mut objects = objects.into_iter();
                let calls = calls_of(|| {
                    for (n, object) in objects.by_ref().enumerate() {
                        way(object, &alloc);
                        if n % 1_000 == 0 {
                            alloc.domain().advance(alloc.domain().start_poll());
                        }
                    }
                });
                assert_eq!(calls, 0, "objects of {size} bytes");
            }
        }
    }
}

in_every_setup! {
    fn allocating_without_waiting_does_not_call_the_global_allocator<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(128, 1);
        let objects: Vec<_> = (0..5_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        objects.into_iter().for_each(|object| object.free_unshared(&alloc));
        let mut got = 0;
        let calls = calls_of(|| {
            while let Ok(memory) = alloc.alloc_nowait(layout) {
                got += 1;
                if got % 2 == 0 {
                    Object::filled(memory.cast(), layout, 2).free_unshared(&alloc);
                }
                if got == 20_000 {
                    break;
                }
            }
        });
        assert!(got >= 5_000, "{got} of 5,000 objects that were free");
        assert_eq!(calls, 0);
    }
}

in_every_setup! {
    fn a_section_and_a_poll_do_not_call_the_global_allocator(setup) {
        let domain = setup.domain();
        drop(domain.pin());
        let calls = calls_of(|| {
            for _ in 0..100 {
                let guard = domain.pin();
                let inner = domain.pin();
                let cookie = domain.start_poll();
                assert!(!domain.advance(cookie));
                drop((guard, inner));
                assert!(domain.advance(cookie) && domain.poll(cookie));
            }
        });
        assert_eq!(calls, 0);
    }
}

in_every_setup! {
    /// The objects that a handler may need are there, on every CPU and without carving.
    fn a_prefilled_allocator_serves_calls_that_must_not_wait<P>(setup) {
        let alloc = setup.allocator::<P>();
        for size in [16, 64, 512, 4096] {
            let layout = layout(size, 8);
            alloc.prefill(layout, 150).expect("memory");
            alloc.prefill(layout, 150).expect("enough is there already");
            let ready = || alloc.alloc_nowait(layout).expect("prefilled").cast();
            let objects: Vec<_> =
                (0..150).map(|_| Object::filled(ready(), layout, 3)).collect();
            objects.into_iter().for_each(|object| object.free_unshared(&alloc));
        }
        let error = alloc.prefill(layout(5000, 1), 1).unwrap_err();
        assert!(matches!(error.kind(), memalloc::AllocErrorKind::TooLarge { .. }), "{error}");
        let most = setup.builder::<P>().limit_bytes(64 << 10).build().expect("an allocator");
        let error = most.prefill(layout(64, 1), 1 << 20).unwrap_err();
        assert!(matches!(error.kind(), memalloc::AllocErrorKind::LimitReached { .. }), "{error}");
        assert!(most.alloc_nowait(layout(64, 1)).map(|object| {
            // SAFETY: just allocated, with this layout.
            unsafe { most.free_unshared(object.cast(), layout(64, 1)) };
        }).is_ok(), "objects made ready stay");
        for alloc in [alloc, most] {
            alloc.destroy().expect("nothing leaked");
        }
    }
}

in_every_setup! {
    /// Neither calls that may wait nor `tend` and `trim` take the reserved objects.
    fn prefilled_objects_stay_ready_until_they_are_needed<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(64, 8);
        alloc.prefill(layout, 150).expect("memory");
        let objects: Vec<_> = (0..1_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        objects.into_iter().for_each(|object| object.free(&alloc));
        for _ in 0..4 {
            alloc.tend();
            alloc.trim();
        }
        let ready: Vec<_> = (0..150).map(|_| alloc.alloc_nowait(layout).expect("kept")).collect();
        // SAFETY: allocated above, with this layout.
        let free = |object: std::ptr::NonNull<[u8]>| unsafe { alloc.free(object.cast(), layout) };
        ready.into_iter().for_each(free);

        alloc.prefill(layout, 150).expect("memory");
        alloc.quiesce().expect("no guard is held");
        assert_eq!(alloc.stats().taken.objects, 0, "the reserve goes back too");
    }
}

in_every_setup! {
    /// One large object reserves no more than its slab, however small the limit.
    fn a_reserve_leaves_the_rest_of_memory_to_other_classes<P>(setup) {
        let builder = setup.builder::<P>().limit_bytes(1 << 20);
        let alloc = builder.build().expect("an allocator");
        let (large, small) = (layout(4096, 1), layout(64, 1));
        alloc.prefill(large, 1).expect("memory");
        let others: Vec<_> = (0..9_000).map(|_| Object::new(&alloc, small, 1)).collect();
        let memory = alloc.alloc_nowait(large).expect("it was prefilled");
        Object::filled(memory.cast(), large, 1).free(&alloc);
        others.into_iter().for_each(|object| object.free(&alloc));
    }
}

in_every_setup! {
    /// Frees for reuse refill the reserve, and any CPU may take it again.
    fn deferred_frees_refill_the_reserve<P>(setup) {
        if P::KIND == memalloc::PolicyKind::FreeAfterRcuGp {
            return;
        }
        let alloc = setup.allocator::<P>();
        let layout = layout(64, 8);
        alloc.prefill(layout, 150).expect("memory");
        let take = || {
            let take = |_| alloc.alloc_nowait(layout).expect("ready").cast();
            let taken: Vec<_> = (0..150).map(take).collect();
            taken.into_iter().map(|memory| Object::filled(memory, layout, 1)).collect::<Vec<_>>()
        };
        run_on(Some(0));
        let held = take();
        (0..3_000).for_each(|_| Object::new(&alloc, layout, 1).free_rcu(&alloc));
        run_on(Some(1));
        let again = take();
        run_on(None);
        held.into_iter().chain(again).for_each(|object| object.free(&alloc));
    }
}

in_every_setup! {
    /// Taking one object leaves the others where every CPU finds them.
    fn prefilled_objects_are_found_on_any_cpu<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(64, 8);
        alloc.prefill(layout, 150).expect("memory");
        let take = || alloc.alloc_nowait(layout).expect("prefilled").cast();
        run_on(Some(0));
        let mut objects = vec![Object::filled(take(), layout, 0)];
        run_on(Some(1));
        objects.extend((1..150).map(|pattern| Object::filled(take(), layout, pattern)));
        run_on(None);
        objects.into_iter().for_each(|object| object.free(&alloc));
    }
}

in_every_setup! {
    /// The reserve is taken last.
    fn alloc_takes_the_reserve_before_it_fails<P>(setup) {
        let alloc = setup.builder::<P>().limit_bytes(64 << 10).build().expect("an allocator");
        let layout = layout(64, 8);
        alloc.prefill(layout, 150).expect("memory");
        let objects: Vec<_> = (0..1024).map(|_| Object::new(&alloc, layout, 1)).collect();
        assert!(alloc.alloc(layout).is_err(), "a slab has no more");
        objects.into_iter().for_each(|object| object.free(&alloc));
    }
}
