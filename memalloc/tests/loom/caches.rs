//! One CPU's cache, used by two threads at the same time: the `active` protocol.

use crate::explore::Model;
use crate::pair::{LAYOUT, adds_up, allocator, beside, give, take};
use memalloc::{Immediate, MemAlloc, run_on};
use std::sync::Arc;

/// Two threads on one CPU, each taking, freeing and taking again.
#[test]
fn an_object_is_never_handed_out_twice() {
    let model = Model {
        name: "an_object_is_never_handed_out_twice",
        bound: Some(5),
        least: 100,
        happens: &["an object of the other thread"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        let cached = take(&alloc);
        give(&alloc, cached);

        let work = |alloc: Arc<MemAlloc<Immediate>>| {
            move || {
                let first = take(&alloc);
                give(&alloc, first);
                (first, take(&alloc))
            }
        };
        let (there, here) = beside(0, work(alloc.clone()), work(alloc.clone()));
        assert_ne!(there.1, here.1, "handed out twice");
        seen.note("an object of the other thread", there.1 == here.0 || here.1 == there.0);

        adds_up(&alloc, 2, seen);
        give(&alloc, there.1);
        give(&alloc, here.1);
        adds_up(&alloc, 0, seen);
    });
}

/// Two threads on one CPU that may not wait. In a collision one of them gets no object, although
/// there are objects for both.
#[test]
fn a_busy_cache_is_an_error_for_alloc_nowait() {
    let model = Model {
        name: "a_busy_cache_is_an_error_for_alloc_nowait",
        bound: None,
        least: 10,
        happens: &["a collision", "no collision"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        let (first, second) = (take(&alloc), take(&alloc));
        give(&alloc, first);
        give(&alloc, second);

        let work = |alloc: Arc<MemAlloc<Immediate>>| {
            move || {
                let object = alloc.alloc_nowait(LAYOUT).ok()?;
                let object = alloc.handle(object.cast());
                alloc.writes_plain(object);
                Some(object)
            }
        };
        let got: [_; 2] = beside(0, work(alloc.clone()), work(alloc.clone())).into();
        seen.note("a collision", got.contains(&None));
        seen.note("no collision", !got.contains(&None));
        assert!(got[0].is_none() || got[0] != got[1], "handed out twice");

        let held: Vec<_> = got.into_iter().flatten().collect();
        adds_up(&alloc, held.len() as u64, seen);
        held.into_iter().for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}

/// One thread frees while the other uses the cache. The object goes to the list beside the cache,
/// and the other thread finds it there, with all writes to it.
#[test]
fn an_object_freed_while_its_cache_is_busy_is_found_again() {
    let model = Model {
        name: "an_object_freed_while_its_cache_is_busy_is_found_again",
        bound: None,
        least: 50,
        happens: &["found at once", "found later", "a collision"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        let object = take(&alloc);
        let before = alloc.stats().taken;
        let (there, here) = (alloc.clone(), alloc.clone());
        let ((), got) = beside(0, move || give(&there, object), move || [take(&here), take(&here)]);
        seen.note("found at once", got[0] == object);
        seen.note("found later", got[1] == object);
        assert_ne!(got[0], got[1]);
        // Objects carved although one was free: the free one could not be reached.
        seen.note("a collision", alloc.stats().taken.objects > before.objects + 1);

        adds_up(&alloc, 2, seen);
        got.into_iter().for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}

/// An allocation that may not wait also finds an object that was freed while the cache was busy.
#[test]
fn an_object_that_a_busy_cache_turned_away_is_allocated_without_waiting() {
    let model = Model {
        name: "an_object_that_a_busy_cache_turned_away_is_allocated_without_waiting",
        bound: None,
        least: 5,
        happens: &["sums added up"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        let (first, second) = (take(&alloc), take(&alloc));
        let (there, here) = (alloc.clone(), alloc.clone());
        beside(0, move || give(&there, first), move || give(&here, second));

        let ready = || alloc.alloc_nowait(LAYOUT).map(|memory| alloc.handle(memory.cast()));
        let got = [ready(), ready()].map(|object| object.expect("two objects are free"));
        adds_up(&alloc, 2, seen);
        got.into_iter().for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}

/// A CPU that allocates nothing also gives away the objects that its busy cache turned away.
#[test]
fn an_object_that_a_busy_cache_turned_away_reaches_the_other_cpu() {
    let model = Model {
        name: "an_object_that_a_busy_cache_turned_away_reaches_the_other_cpu",
        bound: None,
        least: 5,
        happens: &["sums added up"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        let objects: [_; 5] = std::array::from_fn(|_| take(&alloc));
        let (there, here) = (alloc.clone(), alloc.clone());
        beside(0, move || give(&there, objects[0]), move || give(&here, objects[1]));
        objects[2..].iter().for_each(|object| give(&alloc, *object));

        // The cache keeps two; the other CPU can have the rest.
        run_on(1);
        let got: [_; 3] = std::array::from_fn(|_| take(&alloc));
        assert!(got.iter().all(|object| objects.contains(object)), "left behind: {got:?}");
        adds_up(&alloc, 3, seen);
        got.into_iter().for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}
