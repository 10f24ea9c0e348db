//! A free that waits for readers because too much is pending.

use crate::explore::Model;
use crate::pair::{adds_up, beside, built, give, give_rcu, of_one_class, take};
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicBool, AtomicU32, Ordering, explored};
use memalloc::{AfterRcuGp, Handle, MemAlloc};
use std::sync::Arc;

/// Returns an allocator of one class that allows no pending batch.
fn strict() -> Arc<MemAlloc<AfterRcuGp>> {
    Arc::new(built(of_one_class().domain(Domain::new()).max_pending(0)).ends_at_once())
}

/// Looks for an object inside a section and reads it. Returns whether there was one.
fn finds(alloc: &MemAlloc<AfterRcuGp>, link: &AtomicU32) -> bool {
    let section = alloc.domain().pin();
    let found = Handle::new(link.load(Ordering::Acquire));
    if let Some(found) = found {
        alloc.reads_plain(found);
    }
    drop(section);
    found.is_some()
}

/// The free that completes a batch waits until the reader has left: time stands still in models, so
/// the wait does not time out. Objects that may be reused then are held by no reader.
#[test]
fn a_free_that_waits_for_room_returns_when_the_reader_has_left() {
    let model = Model {
        name: "a_free_that_waits_for_room_returns_when_the_reader_has_left",
        bound: Some(2),
        least: 100,
        happens: &["found", "not found", "reused"],
    };
    model.explore(|seen| {
        let alloc = strict();
        let objects: [_; 2] = std::array::from_fn(|_| take(&alloc));
        let link = Arc::new(AtomicU32::new(objects[0].get()));
        let (reader, shared) = (alloc.clone(), link.clone());
        let read = move || finds(&reader, &shared);
        let write = || {
            link.store(0, Ordering::Release);
            objects.into_iter().for_each(|object| give_rcu(&alloc, object));
            assert_eq!(alloc.stats().pending.objects, 0, "it has waited");
            take(&alloc)
        };
        let (found, got) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("reused", objects.contains(&got));

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// Objects that another CPU has deferred count too, and the waiting free finds them there. The
/// other thread defers inside its own section, where it does not wait.
#[test]
fn a_free_that_waits_for_room_finds_objects_that_another_cpu_has_deferred() {
    let model = Model {
        name: "a_free_that_waits_for_room_finds_objects_that_another_cpu_has_deferred",
        bound: Some(3),
        least: 100,
        happens: &["has the other's", "does not have the other's"],
    };
    model.explore(|seen| {
        let alloc = strict();
        let theirs: [_; 2] = std::array::from_fn(|_| take(&alloc));
        let ours: [_; 2] = std::array::from_fn(|_| take(&alloc));
        let other = alloc.clone();
        let deferred = Arc::new(AtomicBool::new(false));
        let there = deferred.clone();
        let defer_inside = move || {
            let section = other.domain().pin();
            theirs.into_iter().for_each(|object| give_rcu(&other, object));
            there.store(true, Ordering::Release);
            // Two waiting threads make too many executions: `.._waits_once_the_section_has_ended`
            // has one.
            explored();
            drop(section);
        };
        let defer = || {
            // Loom does not see the counts of the lists; it sees this.
            let has_deferred = deferred.load(Ordering::Acquire);
            ours.into_iter().for_each(|object| give_rcu(&alloc, object));
            if has_deferred {
                assert_eq!(alloc.stats().pending.objects, 0, "too much was pending, and is still");
            }
            std::array::from_fn(|_| take(&alloc))
        };
        let ((), got): ((), [_; 4]) = beside(1, defer_inside, defer);
        let others = got.iter().filter(|object| theirs.contains(object)).count();
        seen.note("has the other's", others == 2);
        seen.note("does not have the other's", others == 0);

        adds_up(&alloc, 4, seen);
        got.into_iter().for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}

/// A thread that frees inside its own section waits once the section has ended, not inside it. Then
/// a grace period has passed, and the reader that was inside has left.
#[test]
fn a_free_inside_a_section_waits_once_the_section_has_ended() {
    let model = Model {
        name: "a_free_inside_a_section_waits_once_the_section_has_ended",
        bound: Some(1),
        least: 100,
        happens: &["found", "not found", "reused"],
    };
    model.explore(|seen| {
        let alloc = strict();
        let objects: [_; 2] = std::array::from_fn(|_| take(&alloc));
        let link = Arc::new(AtomicU32::new(objects[0].get()));
        let (reader, shared) = (alloc.clone(), link.clone());
        let read = move || finds(&reader, &shared);
        let write = || {
            let domain = alloc.domain();
            let section = domain.pin();
            link.store(0, Ordering::Release);
            objects.into_iter().for_each(|object| give_rcu(&alloc, object));
            assert_eq!(alloc.stats().pending.objects, 2, "this section has not ended");
            let before = domain.rcu().completed();
            drop(section);
            assert!(domain.rcu().completed() > before, "it has waited");
            take(&alloc)
        };
        let (found, got) = beside(1, read, write);
        seen.note("found", found);
        seen.note("not found", !found);
        seen.note("reused", objects.contains(&got));

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}
