//! Readers, and the threads that wait for them.

use crate::explore::Model;
use crate::pair::{Plain, adds_up, allocator, beside, give, give_rcu, take};
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicBool, AtomicU32, Ordering};
use memalloc::{AfterRcuGp, Handle};
use std::sync::Arc;

/// The reader finds an object by its handle and reads plain memory. The writer unlinks the object,
/// frees it deferred, and takes objects until one comes from the cache, writing to each.
#[test]
fn free_rcu_is_not_reused_inside_a_read_section() {
    let model = Model {
        name: "free_rcu_is_not_reused_inside_a_read_section",
        bound: Some(3),
        least: 1_000,
        happens: &["found", "not found", "reused", "not reused yet"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterRcuGp>();
        let object = take(&alloc);
        let link = Arc::new(AtomicU32::new(object.get()));

        let (reader, shared) = (alloc.clone(), link.clone());
        let read = move || {
            let guard = reader.domain().pin();
            let found = Handle::new(shared.load(Ordering::Acquire));
            if let Some(found) = found {
                reader.reads_plain(found);
            }
            drop(guard);
            found.is_some()
        };
        let write = || {
            link.store(0, Ordering::Release);
            give_rcu(&alloc, object);
            [take(&alloc), take(&alloc)]
        };
        let (found, got) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("reused", got.contains(&object));
        seen.note("not reused yet", !got.contains(&object));

        adds_up(&alloc, 2, seen);
        got.into_iter().for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}

/// Two threads of one CPU defer one object each, under different cookies, into the same queues. The
/// section of the second thread began after the end of the first grace period, and lasts until the
/// other thread has allocated.
#[test]
fn a_batch_does_not_pass_with_an_older_one() {
    let model = Model {
        name: "a_batch_does_not_pass_with_an_older_one",
        bound: Some(2),
        least: 1_000,
        happens: &["the older one was reused", "the older one was not reused"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterRcuGp>();
        let (older, newer) = (take(&alloc), take(&alloc));

        let other = alloc.clone();
        let defer = move || {
            give_rcu(&other, older);
            take(&other)
        };
        let read = || {
            let domain = alloc.domain();
            domain.advance(domain.start_poll());
            let guard = domain.pin();
            give_rcu(&alloc, newer);
            guard
        };
        let (got, guard) = beside(0, defer, read);
        assert_ne!(got, newer, "reused inside a section that began before it was freed");
        drop(guard);
        seen.note("the older one was reused", got == older);
        seen.note("the older one was not reused", got != older);

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// A reader that found an object before `synchronize` began has left it when `synchronize` returns.
#[test]
fn synchronize_waits_for_a_reader() {
    let model = Model {
        name: "synchronize_waits_for_a_reader",
        bound: Some(3),
        least: 100,
        happens: &["found", "not found", "a poll that failed"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let linked = Arc::new(AtomicBool::new(true));
        let memory = Plain::default();

        let (there, shared, cell) = (domain.clone(), linked.clone(), memory.clone());
        let read = move || {
            // The first section claims the slot, which then shows an epoch that is over.
            drop(there.pin());
            let guard = there.pin();
            let found = shared.load(Ordering::Acquire);
            if found {
                cell.read();
            }
            drop(guard);
            found
        };
        let write = || {
            linked.store(false, Ordering::Release);
            let failed = !domain.advance(domain.start_poll());
            domain.synchronize().expect("this thread does not read");
            memory.increment();
            failed
        };
        let (found, failed) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("a poll that failed", failed);
    });
}

/// The inner guard is dropped first or last: the section lasts as long as the longer of the two.
#[test]
fn a_nested_section_lasts_as_long_as_its_last_guard() {
    let model = Model {
        name: "a_nested_section_lasts_as_long_as_its_last_guard",
        bound: Some(3),
        least: 100,
        happens: &["found", "a poll that failed"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let linked = Arc::new(AtomicBool::new(true));
        let memory = Plain::default();

        let (there, shared, cell) = (domain.clone(), linked.clone(), memory.clone());
        let read = move || {
            let outer = there.pin();
            let inner = there.pin();
            let found = shared.load(Ordering::Acquire);
            drop(outer);
            if found {
                cell.read();
            }
            drop(inner);
            found
        };
        let write = || {
            linked.store(false, Ordering::Release);
            let failed = !domain.advance(domain.start_poll());
            domain.synchronize().expect("this thread does not read");
            memory.increment();
            failed
        };
        let (found, failed) = beside(1, read, write);
        seen.note("found", found);
        seen.note("a poll that failed", failed);
    });
}

/// A section that begins after the cookie sees everything done before it. So does a section that
/// announces the newer epoch while the grace period is under way.
#[test]
fn a_later_section_does_not_find_what_was_unlinked() {
    let model = Model {
        name: "a_later_section_does_not_find_what_was_unlinked",
        bound: Some(3),
        least: 100,
        happens: &["found", "not found", "ended by the reader"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let linked = Arc::new(AtomicBool::new(true));
        let memory = Plain::default();

        let (there, shared, cell) = (domain.clone(), linked.clone(), memory.clone());
        let read = move || {
            // This thread may begin and end the other thread's grace period.
            let ended = there.advance(there.start_poll());
            let guard = there.pin();
            let found = shared.load(Ordering::Relaxed);
            if found {
                cell.read();
            }
            drop(guard);
            (ended, found)
        };
        let write = || {
            linked.store(false, Ordering::Relaxed);
            let cookie = domain.start_poll();
            if domain.advance(cookie) {
                memory.increment();
            }
        };
        let ((ended, found), ()) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("ended by the reader", ended);
    });
}

/// One thread reads, one drives the grace period to its end, and one only polls. The reads happen
/// before what the third thread does next, although it never scanned the reader.
#[test]
fn a_poll_sees_what_the_driver_saw() {
    let model = Model {
        name: "a_poll_sees_what_the_driver_saw",
        bound: Some(3),
        least: 100,
        happens: &["found and passed", "a poll that failed"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let linked = Arc::new(AtomicBool::new(true));
        let memory = Plain::default();

        let (there, shared, seen_there) = (domain.clone(), linked.clone(), memory.clone());
        let read = move || {
            let guard = there.pin();
            let found = shared.load(Ordering::Acquire);
            if found {
                seen_there.read();
            }
            drop(guard);
            found
        };
        let driver = domain.clone();
        let drive = move || driver.advance(driver.start_poll());
        let poll = || {
            linked.store(false, Ordering::Release);
            let passed = domain.poll(domain.start_poll());
            if passed {
                memory.increment();
            }
            passed
        };
        let (found, (_, passed)) = beside(1, read, || beside(1, drive, poll));
        seen.note("found and passed", found && passed);
        seen.note("a poll that failed", !passed);
    });
}

/// A reader that announced a newer epoch is not waited for: its announcement is proof that its
/// earlier section has ended, with all its reads.
#[test]
fn a_newer_section_vouches_for_the_earlier_one() {
    let model = Model {
        name: "a_newer_section_vouches_for_the_earlier_one",
        bound: Some(4),
        least: 100,
        happens: &["found", "passed", "a poll that failed"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let linked = Arc::new(AtomicBool::new(true));
        let memory = Plain::default();

        let (there, shared, seen_there) = (domain.clone(), linked.clone(), memory.clone());
        let read = move || {
            let guard = there.pin();
            let found = shared.load(Ordering::Acquire);
            if found {
                seen_there.read();
            }
            drop(guard);
            drop(there.pin());
            found
        };
        let write = || {
            linked.store(false, Ordering::Release);
            let passed = domain.advance(domain.start_poll());
            if passed {
                memory.increment();
            }
            passed
        };
        let (found, passed) = beside(1, read, write);
        seen.note("found", found);
        seen.note("passed", passed);
        seen.note("a poll that failed", !passed);
    });
}

/// The slot of a thread that ends serves another thread, nested sections included.
#[test]
fn a_slot_changes_hands() {
    let model = Model {
        name: "a_slot_changes_hands",
        bound: None,
        least: 10,
        happens: &["a slot each", "one slot after the other"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let there = domain.clone();
        let nest = |domain: &Domain| {
            let outer = domain.pin();
            drop(domain.pin());
            let threads = domain.stats().slots;
            drop(outer);
            threads
        };
        let (_, threads) = beside(1, move || nest(&there), || nest(&domain));
        seen.note("a slot each", threads == 2);
        seen.note("one slot after the other", threads == 1);
        assert_eq!(domain.stats().reading, 0);
    });
}
