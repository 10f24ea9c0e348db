//! A `Cache` that is used wrongly is found out: reads are noted where a reader gets its reference,
//! writes where an object is allocated, dropped or freed for good.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use crate::pair::beside;
use memalloc::Cache;
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicPtr, Ordering};
use std::ptr::NonNull;
use std::sync::Arc;

/// A way for a reader and a writer to share an object of a cache.
#[derive(Clone, Copy)]
struct Usage {
    /// The reader looks at the object in the section that it found it in.
    reads_in_the_same_section: bool,
    /// The writer frees what it unlinked for after a grace period, not at once.
    frees_deferred: bool,
    /// The writer unlinks the object before it frees it.
    unlinks_first: bool,
}

/// Frees an object beside a reader, and allocates again.
fn run(usage: Usage, seen: &Seen) {
    let cache = Arc::new(Cache::<u64>::builder().domain(Domain::new()).build().expect("a cache"));
    let object = cache.alloc(1).expect("an object").into_raw();
    let link = Arc::new(AtomicPtr::new(object.as_ptr()));

    let (there, shared) = (cache.clone(), link.clone());
    let read = move || {
        let mut guard = there.domain().pin();
        let found = NonNull::new(shared.load(Ordering::Acquire))?;
        if !usage.reads_in_the_same_section {
            drop(guard);
            guard = there.domain().pin();
        }
        // SAFETY: that of the model; where it is not given, loom stops here or at the writer.
        Some(*unsafe { there.read(found, &guard) })
    };
    let unlink = || link.store(std::ptr::null_mut(), Ordering::Release);
    let write = || {
        if usage.unlinks_first {
            unlink();
        }
        if usage.frees_deferred {
            // SAFETY: freed once, and unlinked but where the model is about that.
            unsafe { cache.free_raw(object) };
        } else {
            // SAFETY: not unshared, which is what the model is about.
            unsafe { cache.free_unshared(object) };
        }
        let again = cache.alloc(2).expect("an object").into_raw();
        if !usage.unlinks_first {
            unlink();
        }
        again
    };
    let (found, again) = beside(1, read, write);
    seen.note("found", found.is_some());
    seen.note("not found", found.is_none());
    seen.note("used again", again == object);
    assert!(found.is_none_or(|value| value == 1), "claim: of another life");
    // SAFETY: no other thread knows the object.
    unsafe { cache.free_unshared(again) };
    cache.quiesce().expect("no guard is left");
}

const RIGHT: Usage =
    Usage { reads_in_the_same_section: true, frees_deferred: true, unlinks_first: true };

#[test]
fn a_reader_that_keeps_to_its_section_is_right() {
    let model = Model {
        name: "a_reader_that_keeps_to_its_section_is_right",
        bound: Some(2),
        least: 10,
        happens: &["found", "not found", "used again"],
    };
    model.explore(|seen| run(RIGHT, seen));
}

fn is_found_out(name: &str, usage: Usage) {
    breaks(name, "Causality violation", move || run(usage, &Seen::default()));
}

#[test]
fn a_reader_that_keeps_an_object_after_its_section_is_found_out() {
    let usage = Usage { reads_in_the_same_section: false, ..RIGHT };
    is_found_out("object read after its section", usage);
}

#[test]
fn a_free_at_once_beside_a_reader_is_found_out() {
    is_found_out("freed at once", Usage { frees_deferred: false, ..RIGHT });
}

#[test]
fn a_free_before_the_unlinking_is_found_out() {
    is_found_out("freed before it is unlinked", Usage { unlinks_first: false, ..RIGHT });
}
