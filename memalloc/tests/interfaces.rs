//! The first code of a new user compiles without type annotations, and works.
#![cfg(not(loom))]

use memalloc::rcu::Domain;
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, AllocError, AllocErrorKind, BuildError, Cache, CpuMode, Handle,
    Immediate, MemAlloc, ParseNameError, PolicyKind, ProtectsIdentity, ReusePolicy, SlabBox,
    SlotRef, TypeStable,
};
use std::alloc::Layout;
use std::error::Error;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

type Outcome = Result<(), Box<dyn Error>>;

/// Neither `Debug` nor `Clone`, as a node of a structure is.
struct Node {
    number: u64,
}

#[derive(Default)]
struct Counted {
    life: AtomicU64,
}

// SAFETY: an atomic, of which every value is valid, and nothing to drop.
unsafe impl TypeStable for Counted {}

#[test]
fn new_needs_no_annotation() -> Outcome {
    let alloc = MemAlloc::new()?;
    assert_eq!(alloc.stats().policy, PolicyKind::AfterRcuGp);
    let cache = Cache::new()?;
    assert_eq!(*cache.alloc("a word".to_owned())?, "a word");
    assert_eq!(cache.stats().policy, PolicyKind::AfterRcuGp);
    Ok(())
}

#[test]
fn another_policy_is_named_once() -> Outcome {
    fn policy<P: ReusePolicy>(alloc: &MemAlloc<P>) -> PolicyKind {
        assert_eq!(alloc.stats().policy, P::KIND);
        P::KIND
    }
    assert_eq!(policy(&MemAlloc::<Immediate>::with_policy()?), PolicyKind::Immediate);
    let built = MemAlloc::<Immediate>::builder().domain(Domain::new()).build()?;
    assert_eq!(policy(&built), PolicyKind::Immediate);
    let cache = Cache::<u64, AfterTasksTraceGp>::with_policy()?;
    assert_eq!(cache.stats().policy, PolicyKind::AfterTasksTraceGp);
    let points = Cache::<Counted, _>::type_stable()?;
    assert_eq!(points.stats().policy, PolicyKind::Immediate);
    Ok(())
}

#[test]
fn a_cache_has_a_builder_of_its_own_under_every_policy() -> Outcome {
    let domain = Domain::new();
    let cache = Cache::<u64>::builder().domain(domain.clone()).max_pending(1 << 16).build()?;
    assert_eq!(cache.stats().max_pending, 1 << 16);
    assert!(domain.pin().is_of(cache.domain()));
    let sizes: Vec<_> = cache.stats().classes.iter().map(|class| class.size).collect();
    assert_eq!(sizes, [16], "the class of the type, and no other");
    let points = Cache::<Counted, Immediate>::builder().domain(domain).build()?;
    let slot = points.alloc_slot()?;
    // SAFETY: allocated above, freed once.
    unsafe { points.free_slot(slot) };
    Ok(())
}

#[test]
fn the_type_of_a_built_cache_is_named_once_on_either_side() -> Outcome {
    struct Holder {
        words: Cache<String>,
    }
    fn built<P: ProtectsIdentity>() -> Result<Cache<u64, P>, BuildError> {
        Cache::builder().build()
    }
    let holder = Holder { words: Cache::builder().max_pending(1 << 16).build()? };
    assert_eq!(*holder.words.alloc("a word".to_owned())?, "a word");
    let right: Cache<u64> = Cache::builder().build()?;
    let left = Cache::<u64>::builder().build()?;
    let stable: Cache<Counted, Immediate> = Cache::builder().build()?;
    let alloc: MemAlloc = MemAlloc::builder().build()?;
    let policies = [right.stats(), left.stats(), stable.stats(), alloc.stats()].map(|s| s.policy);
    let usual = PolicyKind::AfterRcuGp;
    assert_eq!(policies, [usual, usual, PolicyKind::Immediate, usual]);
    assert_eq!(built::<AfterTasksTraceGp>()?.stats().policy, PolicyKind::AfterTasksTraceGp);
    Ok(())
}

#[test]
fn an_error_with_a_value_that_is_not_debug_goes_through_a_question_mark() {
    fn fails(cache: &Cache<Node>) -> Outcome {
        let node = cache.alloc(Node { number: 7 })?;
        unreachable!("there is no memory for {}", node.number);
    }
    let cache = Cache::<Node>::builder().limit_bytes(0).build().expect("a cache");
    let error = fails(&cache).unwrap_err();
    assert!(error.to_string().contains("the limit of 0 bytes"), "{error}");
    assert!(error.is::<AllocError<Node>>());

    let Err(error) = cache.alloc(Node { number: 7 }) else { panic!("there is no memory") };
    assert_eq!(format!("{error:?}"), "AllocError { kind: LimitReached { limit: 0 }, .. }");
    assert_eq!(error.into_value().number, 7);
}

/// An error of any type in a box.
fn boxed(error: impl Error + 'static) -> Box<dyn Error> {
    error.into()
}

#[test]
fn kinds_and_names_are_errors_of_their_own() {
    let kind = boxed(AllocErrorKind::OutOfMemory);
    assert_eq!(kind.to_string(), "the system has no more memory");
    let name: ParseNameError = "warp".parse::<CpuMode>().unwrap_err();
    assert_eq!(name.name(), "warp");
    let text = "unknown CPU mode \"warp\": allowed are rseq, active-cpu and active-thread";
    assert_eq!(name.to_string(), text);
    let build = BuildError::Environment(name.clone());
    assert_eq!(build.to_string(), format!("MEMALLOC_CPU_MODE: {text}"));
    let source = build.source().and_then(|source| source.downcast_ref::<ParseNameError>());
    assert_eq!(source, Some(&name));
}

/// Pushes a node to a list, and gives the value back where the exchange fails.
#[test]
fn after_a_failed_exchange_the_value_comes_back() -> Outcome {
    let cache = Cache::new()?;
    let head = AtomicPtr::new(cache.alloc(Node { number: 1 })?.into_raw().as_ptr());
    let mine = cache.alloc(Node { number: 2 })?.into_raw();
    let exchanged =
        head.compare_exchange(ptr::null_mut(), mine.as_ptr(), Ordering::AcqRel, Ordering::Relaxed);
    assert!(exchanged.is_err());
    // SAFETY: `mine` is of this cache, and the exchange failed: it was never published.
    let mine = unsafe { SlabBox::from_raw(mine, &cache) };
    assert_eq!(mine.into_inner().number, 2);
    assert_eq!(cache.stats().live.objects, 1, "its object is free");

    let head = NonNull::new(head.into_inner()).expect("stored above");
    // SAFETY: no other thread knows the object.
    unsafe { cache.free_unshared(head) };
    let stats = cache.stats();
    assert_eq!((stats.live.objects, stats.pending.objects), (0, 0), "not after a grace period");
    Ok(())
}

#[test]
fn an_unshared_value_is_dropped_at_once_and_a_value_that_is_moved_out_is_not() -> Outcome {
    let value = std::sync::Arc::new(());
    let cache = Cache::new()?;
    let object = cache.alloc(value.clone())?.into_raw();
    // SAFETY: never published, and freed once.
    unsafe { cache.free_unshared(object) };
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
    let moved = cache.alloc(value.clone())?.into_inner();
    assert_eq!(std::sync::Arc::strong_count(&value), 2);
    drop(moved);
    assert_eq!(cache.stats().live.objects, 0);
    Ok(())
}

#[test]
fn a_slot_is_copied_as_a_reference_is() -> Outcome {
    /// The position of a walk.
    #[derive(Clone, Copy)]
    struct Link<'g> {
        previous: SlotRef<'g, Counted>,
        current: SlotRef<'g, Counted>,
    }
    let cache = Cache::<Counted, _>::type_stable()?;
    let slot = cache.alloc_slot()?;
    let guard = cache.domain().pin();
    // SAFETY: allocated above, and not freed yet.
    let object = unsafe { cache.slot(slot, &guard) };
    let link = Link { previous: object, current: object };
    let copy = link;
    assert!(ptr::eq(&raw const *link.previous, &raw const *copy.current));
    assert_eq!(object.life.load(Ordering::Relaxed), 0);
    drop(guard);
    // SAFETY: freed once.
    unsafe { cache.free_slot(slot) };
    Ok(())
}

/// The top bits that the documentation of `Handle` promises to those who want tags.
#[test]
fn every_handle_is_below_the_size_of_the_range() -> Outcome {
    let range = 16 << 20;
    let alloc = MemAlloc::<AfterRcuGp>::builder().range_bytes(range).build()?;
    let layout = Layout::new::<[u8; 4096]>();
    let handles: Vec<Handle> = std::iter::from_fn(|| alloc.alloc_handle(layout).ok()).collect();
    assert!(handles.len() > 4000, "the range is used up");
    assert!(handles.iter().all(|handle| u64::from(handle.get()) < range / 16));
    // SAFETY: allocated above with this layout, and freed once each.
    handles.into_iter().for_each(|handle| unsafe { alloc.free_handle(handle, layout) });
    Ok(())
}

/// Two threads push and pop; the count beside the handle keeps one node from passing for another.
#[test]
fn a_stack_whose_nodes_are_reused_at_once_loses_and_doubles_nothing() -> Outcome {
    #[derive(Default)]
    struct Item {
        value: AtomicU32,
        next: AtomicU32,
    }
    // SAFETY: atomics only, of which every value is valid, and nothing to drop.
    unsafe impl TypeStable for Item {}

    const ROUNDS: u32 = 20_000;
    let (items, head) = (Cache::<Item, _>::type_stable()?, AtomicU64::new(0));
    let replace = |old: u64, first: u32| {
        let new = ((old >> 32) + 1) << 32 | u64::from(first);
        head.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let push = |value: u32| {
        let (slot, guard) = (items.alloc_slot().expect("memory"), items.domain().pin());
        // SAFETY: allocated above, and not freed.
        let item = unsafe { items.slot(slot, &guard) };
        item.value.store(value, Ordering::Relaxed);
        loop {
            let old = head.load(Ordering::Relaxed);
            item.next.store(old as u32, Ordering::Relaxed);
            if replace(old, slot.get()) {
                return;
            }
        }
    };
    let pop = || {
        let guard = items.domain().pin();
        loop {
            let old = head.load(Ordering::Acquire);
            let slot = Handle::new(old as u32)?;
            // SAFETY: found inside the section.
            let item = unsafe { items.slot(slot, &guard) };
            let next = item.next.load(Ordering::Relaxed);
            if replace(old, next) {
                let value = item.value.load(Ordering::Relaxed);
                // SAFETY: unlinked by the exchange, and freed once.
                unsafe { items.free_slot(slot) };
                return Some(u64::from(value));
            }
        }
    };
    let work = || {
        (1..=ROUNDS).for_each(&push);
        (0..ROUNDS).map(|_| pop().expect("pushed before")).sum::<u64>()
    };
    let sum: u64 = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().expect("it does not panic")).iter().sum()
    });
    let once = u64::from(ROUNDS) * u64::from(ROUNDS + 1) / 2;
    assert_eq!((sum, pop()), (2 * once, None));
    items.destroy().expect("every item was freed");
    Ok(())
}

#[cfg(debug_assertions)]
mod a_guard_of_another_domain_is_noticed {
    use super::*;

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cache")]
    fn by_read() {
        let cache = Cache::new().expect("a cache");
        let object = cache.alloc(7).expect("memory").into_raw();
        let other = Domain::new();
        // SAFETY: the panic comes first.
        unsafe { _ = cache.read(object, &other.pin()) };
    }

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cache")]
    fn by_read_trace() {
        let cache = Cache::<u64, AfterTasksTraceGp>::with_policy().expect("a cache");
        let object = cache.alloc(7).expect("memory").into_raw();
        let other = Domain::new();
        // SAFETY: the panic comes first.
        unsafe { _ = cache.read_trace(object, &other.pin_trace()) };
    }

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cache")]
    fn by_slot() {
        let cache = Cache::<Counted, _>::type_stable().expect("a cache");
        let slot = cache.alloc_slot().expect("memory");
        let other = Domain::new();
        // SAFETY: the panic comes first.
        unsafe { _ = cache.slot(slot, &other.pin()) };
    }
}

/// A guard is of its domain wherever it is, and of no other.
#[test]
fn a_sleepers_guard_knows_its_domain_on_every_thread() {
    let (domain, other) = (Domain::new(), Domain::new());
    let guards = [domain.pin_trace(), domain.pin_trace()];
    let knows = || guards.iter().all(|guard| guard.is_of(&domain) && !guard.is_of(&other));
    assert!(knows());
    std::thread::scope(|scope| {
        assert!(scope.spawn(knows).join().expect("it does not panic"));
    });
    let section = other.pin_trace();
    assert!(section.is_of(&other) && knows(), "the thread used another domain last");
}
