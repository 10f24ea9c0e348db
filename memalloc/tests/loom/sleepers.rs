//! Sections that may sleep: they end on another thread than they began on, and outlive the first
//! thread.

use crate::explore::Model;
use crate::pair::{Plain, adds_up, allocator, beside, give, give_rcu, take};
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicBool, AtomicU32, Ordering, thread};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, Handle};
use std::sync::Arc;
use std::sync::atomic::AtomicBool as Untracked;

/// Another thread ends a section, and the section's own thread announces a newer one in the same
/// slot. The reads of the earlier section happen before a scan that passes over the newer epoch.
#[test]
fn a_section_that_ended_elsewhere_is_vouched_for() {
    let model = Model {
        name: "a_section_that_ended_elsewhere_is_vouched_for",
        bound: Some(3),
        least: 100,
        happens: &["passed beside the newer section", "held up"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let memory = Plain::default();
        let guard = domain.pin_trace_owned();
        // Stands for an unlink: the section may have found the object.
        let cookie = domain.trace().start_poll();
        assert!(!domain.trace().advance(cookie), "the section holds the grace period up");

        let cell = memory.clone();
        let end = move || {
            cell.read();
            drop(guard);
        };
        let (there, cell, newer) = (domain.clone(), memory, Arc::new(Untracked::new(false)));
        let is_newer = newer.clone();
        let scan = move || {
            let beside_newer = is_newer.load(Ordering::Relaxed);
            let passed = there.trace().advance(cookie);
            if passed {
                cell.increment();
            }
            (beside_newer, passed)
        };
        let scanner = thread::spawn(scan);
        let ((), same_slot) = beside(1, end, || {
            let _guard = domain.pin_trace();
            let same_slot = domain.trace().stats().slots == 1;
            newer.store(same_slot, Ordering::Relaxed);
            same_slot
        });
        let (beside_newer, passed) = scanner.join().expect("the scanner does not panic");
        seen.note("passed beside the newer section", same_slot && beside_newer && passed);
        seen.note("held up", !passed);
    });
}

/// The thread that began a section ends while another thread ends the section. The next owner of
/// the slot is proof that the section has ended, whichever of the two gave the slot back.
#[test]
fn a_slot_vouches_for_the_section_of_its_earlier_owner() {
    let model = Model {
        name: "a_slot_vouches_for_the_section_of_its_earlier_owner",
        bound: Some(2),
        least: 100,
        happens: &["passed in its slot", "held up"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let memory = Plain::default();
        let there = domain.clone();
        // This thread already has a slot, and will need another.
        drop(domain.pin_trace());
        // The thread-local storage of a thread is dropped a little after its function returns:
        // during what follows.
        let owner = thread::spawn(move || there.pin_trace_owned());
        let guard = owner.join().expect("the owner does not panic");
        // Stands for an unlink: the section may have found the object.
        let cookie = domain.trace().start_poll();
        let cell = memory.clone();
        let end = move || {
            cell.read();
            drop(guard);
        };
        let ((), (in_its_slot, passed)) = beside(1, end, || {
            let begun_in_time = !domain.trace().advance(cookie);
            let guards = [domain.pin_trace(), domain.pin_trace()];
            let in_its_slot = domain.trace().stats().slots == 2;
            let passed = domain.trace().advance(cookie);
            if passed {
                memory.increment();
            }
            drop(guards);
            (begun_in_time && in_its_slot, passed)
        });
        seen.note("passed in its slot", in_its_slot && passed);
        seen.note("held up", !passed);
    });
}

/// The thread that began a section ends, and another thread holds the guard. The section goes on,
/// and the later of the two gives the slot back, once.
#[test]
fn a_section_outlives_the_thread_that_began_it() {
    let model = Model {
        name: "a_section_outlives_the_thread_that_began_it",
        bound: Some(2),
        least: 100,
        happens: &["found", "passed", "held up"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let linked = Arc::new(AtomicBool::new(true));
        let memory = Plain::default();

        let (there, shared, cell) = (domain.clone(), linked.clone(), memory.clone());
        let begin = move || {
            let guard = there.pin_trace_owned();
            let found = shared.load(Ordering::Acquire);
            let end = thread::spawn(move || {
                if found {
                    cell.read();
                }
                drop(guard);
            });
            (found, end)
        };
        let ((found, end), (passed, own)) = beside(1, begin, || {
            linked.store(false, Ordering::Release);
            let passed = domain.trace().advance(domain.trace().start_poll());
            if passed {
                memory.increment();
            }
            (passed, domain.pin_trace())
        });
        end.join().expect("the end of a section does not panic");
        assert_eq!(domain.trace().stats().reading, 1, "this thread's own section is open");
        // The thread-local storage of a thread is dropped a little after its function returns.
        while domain.trace().stats().slots > 1 {
            thread::yield_now();
        }
        drop(own);
        let stats = domain.trace().stats();
        assert_eq!((stats.slots, stats.reading), (1, 0), "this thread's slot, and no other");
        seen.note("found", found);
        seen.note("passed", passed);
        seen.note("held up", !passed);
    });
}

/// The section began here, and another thread ends it. Once its slot shows no section, no reader is
/// left, and the reads of the section happen before the next use of the object.
#[test]
fn a_reuse_at_once_is_after_a_section_that_ended_elsewhere() {
    let model = Model {
        name: "a_reuse_at_once_is_after_a_section_that_ended_elsewhere",
        bound: None,
        least: 10,
        happens: &["reused", "not reused"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterTasksTraceGp>();
        let object = take(&alloc);
        let guard = alloc.domain().pin_trace_owned();

        let reader = alloc.clone();
        let end = move || {
            reader.reads_plain(object);
            drop(guard);
        };
        let ((), got) = beside(1, end, || {
            give_rcu(&alloc, object);
            take(&alloc)
        });
        seen.note("reused", got == object);
        seen.note("not reused", got != object);

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// As above, but the thread that began the section also ends, before or after it. Its slot is free
/// once both are over; then the reads of the section happen before the next use of the object.
#[test]
fn a_reuse_at_once_is_after_a_section_that_outlived_its_thread() {
    let model = Model {
        name: "a_reuse_at_once_is_after_a_section_that_outlived_its_thread",
        bound: Some(3),
        least: 100,
        happens: &["found", "found and reused", "not reused"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterTasksTraceGp>();
        let object = take(&alloc);
        let link = Arc::new(AtomicU32::new(object.get()));

        let (reader, shared) = (alloc.clone(), link.clone());
        let begin = move || {
            let guard = reader.domain().pin_trace_owned();
            let found = shared.load(Ordering::Acquire) != 0;
            let end = thread::spawn(move || {
                if found {
                    reader.reads_plain(object);
                }
                drop(guard);
            });
            (found, end)
        };
        let ((found, end), got) = beside(1, begin, || {
            link.store(0, Ordering::Release);
            give_rcu(&alloc, object);
            take(&alloc)
        });
        end.join().expect("the end of a section does not panic");
        seen.note("found", found);
        seen.note("found and reused", found && got == object);
        seen.note("not reused", got != object);

        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// Under the policy that waits for sleepers, an object that a sleeper found is not allocated again
/// before its section has ended.
#[test]
fn free_rcu_is_not_reused_inside_a_section_that_sleeps() {
    let model = Model {
        name: "free_rcu_is_not_reused_inside_a_section_that_sleeps",
        bound: Some(2),
        least: 100,
        happens: &["found", "not found", "reused", "not reused yet"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterTasksTraceGp>();
        let object = take(&alloc);
        let link = Arc::new(AtomicU32::new(object.get()));

        let (reader, shared) = (alloc.clone(), link.clone());
        let read = move || {
            let guard = reader.domain().pin_trace();
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
            take(&alloc)
        };
        let (found, got) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("reused", got == object);
        seen.note("not reused yet", got != object);

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// Under the policy that waits for RCU only, an object that a sleeper found may be allocated again,
/// but does not go back to its slab before the section has ended.
#[test]
fn a_sleeper_keeps_memory_and_type_under_a_policy_that_does_not_keep_the_object() {
    let model = Model {
        name: "a_sleeper_keeps_memory_and_type_under_a_policy_that_does_not_keep_the_object",
        bound: Some(2),
        least: 100,
        happens: &["found", "reused inside the section"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterRcuGp>();
        let object = take(&alloc);
        let link = Arc::new(AtomicU32::new(object.get()));
        let (in_its_slab, reused) = (Plain::default(), Arc::new(Untracked::new(false)));

        let (reader, shared) = (alloc.clone(), link.clone());
        let (memory, is_reused) = (in_its_slab.clone(), reused.clone());
        let read = move || {
            let guard = reader.domain().pin_trace();
            let found = shared.load(Ordering::Acquire) != 0;
            // A step at which the other thread may run.
            let _ = reader.domain().trace().start_poll();
            if found {
                memory.read();
            }
            let reused = found && is_reused.load(Ordering::Relaxed);
            drop(guard);
            (found, reused)
        };
        let write = || {
            link.store(0, Ordering::Release);
            give_rcu(&alloc, object);
            let got = take(&alloc);
            reused.store(got == object, Ordering::Relaxed);
            give(&alloc, got);
            let returned = alloc.quiesce().expect("this thread does not read").objects;
            assert!(returned > 0, "everything is back in its slab");
            in_its_slab.increment();
        };
        let ((found, reused), ()) = beside(1, read, write);
        seen.note("found", found);
        seen.note("reused inside the section", reused);
        adds_up(&alloc, 0, seen);
    });
}
