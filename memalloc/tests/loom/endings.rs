//! The end of an allocator while other threads still read.

use crate::explore::Model;
use crate::pair::{
    Plain, adds_up, allocator, allocator_in, allocator_that_ends, beside, give_rcu, take,
};
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicBool, Ordering};
use memalloc::{AfterRcuGp, Cache, MemAlloc};
use std::sync::Arc;

/// A value whose destructor writes to the memory that readers read.
#[derive(Debug)]
struct Node(Plain);

impl Drop for Node {
    fn drop(&mut self) {
        self.0.increment();
    }
}

/// A cache is dropped with an object that a reader may have found a moment ago. The destructor runs
/// once the reader has left, in the drop or with the callbacks.
#[test]
fn a_cache_that_is_dropped_ends_when_the_reader_has_left() {
    let model = Model {
        name: "a_cache_that_is_dropped_ends_when_the_reader_has_left",
        bound: Some(3),
        least: 100,
        happens: &["found", "not found", "ended at once", "ended later"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let cache = Cache::<Node>::builder().domain(domain.clone()).build().expect("a cache");
        let payload = Plain::default();
        let object = cache.alloc(Node(payload.clone())).expect("an object").into_raw();
        let linked = Arc::new(AtomicBool::new(true));

        let (there, shared, seen_there) = (domain.clone(), linked.clone(), payload.clone());
        let read = move || {
            let guard = there.pin();
            let found = shared.load(Ordering::Acquire);
            if found {
                seen_there.read();
            }
            drop(guard);
            found
        };
        let write = || {
            linked.store(false, Ordering::Release);
            // SAFETY: unlinked in the line before, and freed once.
            unsafe { cache.free_raw(object) };
            drop(cache);
            domain.stats().callbacks + domain.trace().stats().callbacks
        };
        let (found, left) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("ended at once", left == 0);
        seen.note("ended later", left == 1);
        domain.barrier().expect("no guard is left");
        domain.trace().barrier().expect("no guard is left");
        assert_eq!(payload.read(), 1, "exactly once");
    });
}

/// An allocator is dropped inside a read section. Pending objects end after the section, on
/// whichever thread runs the callbacks of the domain.
#[test]
fn an_allocator_dropped_inside_a_section_ends_with_the_callbacks() {
    let model = Model {
        name: "an_allocator_dropped_inside_a_section_ends_with_the_callbacks",
        bound: None,
        least: 10,
        happens: &["ended by the other thread", "ended here"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let cache = Cache::<Node>::builder().domain(domain.clone()).build().expect("a cache");
        let payload = Plain::default();
        let object = cache.alloc(Node(payload.clone())).expect("an object").into_raw();

        let there = domain.clone();
        let run = move || there.run_callbacks();
        let write = || {
            let guard = domain.pin();
            // SAFETY: no other thread has the object, and it is freed once.
            unsafe { cache.free_raw(object) };
            drop(cache);
            assert_eq!(payload.read(), 0, "this section has not ended");
            drop(guard);
        };
        let (ran, ()) = beside(1, run, write);
        seen.note("ended by the other thread", ran == 1);
        domain.barrier().expect("no guard is left");
        seen.note("ended here", ran == 0);
        assert_eq!(payload.read(), 1, "exactly once");
    });
}

/// Two allocators on one domain: one ends while the other defers.
#[test]
fn dropping_an_allocator_leaves_the_other_of_its_domain_alone() {
    let model = Model {
        name: "dropping_an_allocator_leaves_the_other_of_its_domain_alone",
        bound: Some(2),
        least: 100,
        happens: &["still pending", "not pending"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let (ends, stays) = (allocator_that_ends::<AfterRcuGp>(&domain), allocator_in(&domain));
        let (first, second) = (take(&ends), take::<AfterRcuGp>(&stays));

        let other = stays.clone();
        let defer = move || give_rcu(&other, second);
        let end = || {
            // Objects that the other thread frees meanwhile have to wait.
            let section = domain.pin();
            give_rcu(&ends, first);
            drop(section);
            drop(ends);
        };
        beside(1, defer, end);
        let pending = stays.stats().pending.objects;
        seen.note("still pending", pending == 1);
        seen.note("not pending", pending == 0);
        adds_up(&stays, 0, seen);
    });
}

/// Two threads quiesce at once. Each returns with the object in its slab, also the one whose object
/// the other one has taken.
#[test]
fn each_of_two_quiesces_at_once_returns_with_everything_back() {
    let model = Model {
        name: "each_of_two_quiesces_at_once_returns_with_everything_back",
        bound: Some(2),
        least: 100,
        happens: &["returned by the other thread", "returned here"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterRcuGp>();
        give_rcu(&alloc, take(&alloc));
        let quiesce = |alloc: &MemAlloc<AfterRcuGp>| {
            let returned = alloc.quiesce().expect("no guard is left").objects;
            assert_eq!(alloc.stats().taken.objects, 0, "claim: everything is back");
            returned == 1
        };
        let there = alloc.clone();
        let (other, here) = beside(1, move || quiesce(&there), || quiesce(&alloc));
        assert!(other != here, "claim: one of them returns it");
        seen.note("returned by the other thread", other);
        seen.note("returned here", here);
    });
}
