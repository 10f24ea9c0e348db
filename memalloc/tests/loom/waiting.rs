//! A free that waits for readers, because too much is pending.

use crate::explore::Model;
use crate::pair::{LAYOUT, adds_up, beside, give, give_rcu, take};
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicBool, AtomicU32, Ordering, explored};
use memalloc::{AfterRcuGp, ClassTable, Handle, MemAlloc};
use std::sync::Arc;

/// An allocator of one class that lets no batch wait.
fn strict() -> Arc<MemAlloc<AfterRcuGp>> {
    let classes = ClassTable::new(&[LAYOUT.size()]).expect("one class is a table");
    let builder = MemAlloc::builder().domain(Domain::new()).classes(classes).max_pending(0);
    Arc::new(builder.build().expect("loom's twins always have memory"))
}

/// Looks for an object in a section, reads it if there is one, and says whether there was.
fn finds(alloc: &MemAlloc<AfterRcuGp>, link: &AtomicU32) -> bool {
    let section = alloc.domain().pin();
    let found = Handle::new(link.load(Ordering::Acquire));
    if let Some(found) = found {
        alloc.reads_plain(found);
    }
    drop(section);
    found.is_some()
}

/// The free that completes a batch waits until the reader has left: time stands still in models, and
/// nobody gives up. What may be reused then, no reader holds.
#[test]
fn who_waits_for_room_goes_on_when_the_reader_has_left() {
    let model = Model {
        name: "who_waits_for_room_goes_on_when_the_reader_has_left",
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

/// What another CPU has deferred counts, too, and whoever waits finds it there. The other thread defers
/// inside a section of its own, where it does not wait.
#[test]
fn who_waits_for_room_finds_what_another_cpu_has_deferred() {
    let model = Model {
        name: "who_waits_for_room_finds_what_another_cpu_has_deferred",
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
            // Two threads that wait at a time are too many executions: `..waits_when_it_has_ended` has one.
            explored();
            drop(section);
        };
        let defer = || {
            // The amounts that the lists keep are nothing that loom sees; this is.
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

/// A thread that frees inside a section of its own does not wait there, but when it has ended: a grace
/// period has passed then, and the reader that was inside has left.
#[test]
fn who_frees_inside_a_section_waits_when_it_has_ended() {
    let model = Model {
        name: "who_frees_inside_a_section_waits_when_it_has_ended",
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
