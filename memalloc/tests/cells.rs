//! A cell keeps each value for as long as a reader may look at it, and no longer.
#![cfg(not(loom))]

mod common;

use common::{Setup, adds_up, behind, in_every_setup};
use memalloc::rcu::Domain;
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, AllocErrorKind, Cache, ExchangeError, NewCellError,
    ProtectsIdentity, RcuCell,
};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Counts its drops; both numbers are the same.
struct Value {
    number: usize,
    again: usize,
    drops: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: usize, drops: &Arc<AtomicUsize>) -> Self {
        Self { number, again: number, drops: drops.clone() }
    }

    fn check(&self) -> usize {
        assert_eq!(self.number, self.again, "not whole");
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.again = usize::MAX;
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn cache<P: ProtectsIdentity>(setup: &Setup) -> Arc<Cache<Value, P>> {
    Arc::new(setup.cache_builder::<Value, P>().build().expect("a cache"))
}

fn number_of(drops: &AtomicUsize) -> usize {
    drops.load(Ordering::Relaxed)
}

in_every_setup! {
    fn a_value_lasts_as_long_as_the_guard_that_it_was_loaded_with<ProtectsIdentity>(setup) {
        let (cache, drops) = (cache::<P>(setup), Arc::default());
        let cell = RcuCell::new_in(Value::new(1, &drops), cache.clone()).expect("memory");
        let guard = cache.domain().pin();
        let seen = cell.load(&guard);
        for number in 2..=500 {
            cell.store(Value::new(number, &drops)).expect("memory");
        }
        assert_eq!((seen.check(), cell.load(&guard).check()), (1, 500));
        drop(cell);
        assert_eq!((seen.check(), number_of(&drops)), (1, 0), "the section has not ended");
        drop(guard);
        cache.quiesce().expect("no guard is left");
        assert_eq!(number_of(&drops), 500, "each once");
        adds_up(&cache.stats(), 0);
    }
}

in_every_setup! {
    fn readers_see_whole_values_that_do_not_go_back<ProtectsIdentity>(setup) {
        const STORES: usize = 2_000;
        let (cache, drops) = (cache::<P>(setup), Arc::default());
        let cell = RcuCell::new_in(Value::new(0, &drops), cache.clone()).expect("memory");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < STORES {
                        let guard = cell.domain().pin();
                        let values = [cell.load(&guard), cell.load(&guard)];
                        let numbers = values.map(Value::check);
                        assert!(last <= numbers[0] && numbers[0] <= numbers[1], "{numbers:?}");
                        last = numbers[1];
                    }
                });
            }
            for number in 1..=STORES {
                cell.store(Value::new(number, &drops)).expect("memory");
            }
        });
        drop(cell);
        cache.quiesce().expect("no guard is left");
        assert_eq!(number_of(&drops), STORES + 1);
    }
}

in_every_setup! {
    /// Every replacement gives another value: none is lost, none is given twice.
    fn swaps_return_each_stored_value_once<ProtectsIdentity>(setup) {
        const EACH: usize = 500;
        let (cache, drops) = (cache::<P>(setup), Arc::default());
        let cell = RcuCell::new_in(Value::new(0, &drops), cache.clone()).expect("memory");
        let swap_many = |first: usize| {
            let swap = |number| {
                let guard = cell.domain().pin();
                let old = cell.swap(Value::new(number, &drops), &guard);
                old.expect("memory").check()
            };
            (first..first + EACH).map(swap).collect::<Vec<_>>()
        };
        let mut given: Vec<_> = thread::scope(|scope| {
            let threads = [1, EACH + 1].map(|first| scope.spawn(move || swap_many(first)));
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        let guard = cell.domain().pin();
        given.push(cell.load(&guard).check());
        given.sort_unstable();
        assert!(given.into_iter().eq(0..=2 * EACH));
    }
}

in_every_setup! {
    /// An equal value is not the same; the one that was expected has to be the very object.
    fn an_exchange_goes_by_identity_and_gives_the_value_back<ProtectsIdentity>(setup) {
        let (cache, drops) = (cache::<P>(setup), Arc::default());
        let cell = RcuCell::new_in(Value::new(1, &drops), cache.clone()).expect("memory");
        let guard = cache.domain().pin();
        let first = cell.load(&guard);
        let equal = Value::new(1, &drops);
        let outcome = cell.compare_exchange(&equal, Value::new(2, &drops), &guard);
        let Err(ExchangeError::Changed(value)) = outcome else { panic!("exchanged") };
        assert_eq!(value.check(), 2);

        let new = cell.compare_exchange(first, value, &guard).expect("it is the one");
        assert!(ptr::eq(new, cell.load(&guard)));
        assert_eq!((new.check(), first.check()), (2, 1));
        let error = cell.compare_exchange(first, Value::new(3, &drops), &guard);
        let Err(error) = error else { panic!("it was replaced") };
        assert_eq!(error.into_value().check(), 3);
        assert_eq!(number_of(&drops), 1, "what came back, and was dropped here");
    }
}

in_every_setup! {
    fn no_update_is_lost<ProtectsIdentity>(setup) {
        const EACH: usize = 500;
        let (cache, drops) = (cache::<P>(setup), Arc::default());
        let cell = RcuCell::new_in(Value::new(0, &drops), cache.clone()).expect("memory");
        let add = || {
            for _ in 0..EACH {
                let outcome = cell.update(|value| Value::new(value.check() + 1, &drops));
                assert!(outcome.is_ok(), "memory");
            }
        };
        thread::scope(|scope| (0..2).for_each(|_| _ = scope.spawn(add)));
        let guard = cell.domain().pin();
        assert_eq!(cell.load(&guard).check(), 2 * EACH);
    }
}

/// An `OwnedRef` outlives the cell, the cache and every other clone of the domain, and is dropped
/// on another thread.
#[test]
fn an_owned_value_outlives_the_cell_and_moves() {
    for setup in Setup::every() {
        let drops = Arc::default();
        let cache = cache::<AfterTasksTraceGp>(&setup);
        let cell = RcuCell::new_in(Value::new(1, &drops), cache).expect("memory");
        let guard = cell.domain().pin_trace();
        let seen = cell.load_trace(&guard);
        let owned = cell.load_owned();
        assert!(ptr::eq(seen, &raw const *owned));
        cell.store(Value::new(2, &drops)).expect("memory");
        assert_eq!((seen.check(), owned.check()), (1, 1));
        drop(guard);
        drop(cell);
        assert_eq!((owned.check(), number_of(&drops)), (1, 0), "its section has not ended");
        thread::spawn(move || assert_eq!(owned.check(), 1)).join().expect("it does not panic");
        assert_eq!(number_of(&drops), 2, "the last clone of the domain is gone: {setup:?}");
    }
}

in_every_setup! {
    /// More is pending than may be, and the reader stays: drops go on, however many. A free that
    /// waits gives up after a while, and tells.
    fn a_drop_does_not_wait<ProtectsIdentity>(setup) {
        const CELLS: usize = 1_000;
        let told = Arc::new(AtomicUsize::new(0));
        let tell = told.clone();
        let domain = Domain::builder().barrier_kind(setup.barrier).stall_after(Duration::from_millis(1));
        let domain = domain.stall_handler(move |_| _ = tell.fetch_add(1, Ordering::Relaxed));
        let domain = domain.build().expect("a supported kind");
        let builder = setup.cache_builder::<Value, P>().domain(domain.clone()).max_pending(0);
        let (cache, drops) = (Arc::new(builder.build().expect("a cache")), Arc::default());
        let new = |number| {
            RcuCell::new_in(Value::new(number, &drops), cache.clone()).expect("memory")
        };
        let cells: Vec<_> = (0..CELLS).map(new).collect();
        behind(|| domain.pin(), || {
            drop(cells);
            assert_eq!(number_of(&told), 0, "a drop has waited");
        });
        cache.quiesce().expect("no guard is left");
        assert_eq!(number_of(&drops), CELLS);
        adds_up(&cache.stats(), 0);
    }
}

#[test]
fn without_memory_the_value_comes_back_and_the_cell_keeps_its_own() {
    let drops = Arc::default();
    let cache = Cache::<Value>::builder().limit_bytes(64 << 10).build().expect("a cache");
    let cache = Arc::new(cache);
    let cell = RcuCell::new_in(Value::new(1, &drops), cache.clone()).expect("memory");
    let mut boxes = Vec::new();
    let value = loop {
        match cache.alloc(Value::new(2, &drops)) {
            Ok(taken) => boxes.push(taken),
            Err(error) => break error.into_value(),
        }
    };
    let error = cell.store(value).expect_err("there is no memory");
    assert_eq!(error.kind(), AllocErrorKind::LimitReached { limit: 64 << 10 });
    let guard = cell.domain().pin();
    let error = cell.swap(error.into_value(), &guard).err().expect("there is no memory");
    let current = cell.load(&guard);
    let error = cell.compare_exchange(current, error.into_value(), &guard);
    let Err(ExchangeError::Alloc(error)) = error else { panic!("there is no memory") };
    assert_eq!(error.into_value().check(), 2);
    let error = cell.update(|value| Value::new(value.check() + 1, &drops));
    assert_eq!(error.expect_err("there is no memory").into_value().check(), 2);
    assert_eq!(cell.load(&guard).check(), 1);
}

#[test]
fn the_error_returns_a_value_that_is_too_large() {
    let page = [7_u8; 4097];
    let error = RcuCell::new(page).expect_err("too large");
    assert!(matches!(error, NewCellError::Build { .. }));
    assert!(error.to_string().contains("4097"), "{error}");
    assert_eq!(error.into_value(), page);
}

mod a_guard_of_another_domain_is_refused {
    use super::*;

    fn cell<P: ProtectsIdentity>() -> RcuCell<u64, P> {
        let cache = Cache::<u64, P>::builder().domain(Domain::new()).build().expect("a cache");
        RcuCell::new_in(7, Arc::new(cache)).expect("memory")
    }

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cell")]
    fn by_load() {
        let other = Domain::new();
        _ = cell::<AfterRcuGp>().load(&other.pin());
    }

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cell")]
    fn by_swap() {
        let other = Domain::new();
        _ = cell::<AfterRcuGp>().swap(8, &other.pin());
    }

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cell")]
    fn by_compare_exchange() {
        let other = Domain::new();
        _ = cell::<AfterRcuGp>().compare_exchange(&7, 8, &other.pin());
    }

    #[test]
    #[should_panic(expected = "the guard is not of the domain of this cell")]
    fn by_load_sleeping() {
        let other = Domain::new();
        _ = cell::<AfterTasksTraceGp>().load_trace(&other.pin_trace());
    }
}
