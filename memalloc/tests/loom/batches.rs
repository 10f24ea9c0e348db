//! Batches that move from one CPU to another.

use crate::explore::Model;
use crate::pair::{adds_up, allocator, beside, give, give_rcu, take};
use memalloc::{AfterRcuGp, Immediate, MemAlloc, run_on};
use std::sync::Arc;

/// One CPU frees more than its cache holds, and the other refills from the surplus.
#[test]
fn a_batch_arrives_whole() {
    let model = Model {
        name: "a_batch_arrives_whole",
        bound: None,
        least: 10,
        happens: &["refilled from the other CPU"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        let objects: [_; 3] = std::array::from_fn(|_| take(&alloc));
        let (there, here) = (alloc.clone(), alloc.clone());
        let (got, ()) = beside(
            1,
            move || take(&there),
            move || objects.into_iter().for_each(|object| give(&here, object)),
        );
        seen.note("refilled from the other CPU", objects.contains(&got));

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// One CPU defers more than its cache holds, and gives the surplus away; the other refills from it.
/// The thread of the other CPU is inside a section at first.
#[test]
fn a_deferred_batch_arrives_whole() {
    let model = Model {
        name: "a_deferred_batch_arrives_whole",
        bound: Some(3),
        least: 100,
        happens: &["refilled from the other CPU"],
    };
    model.explore(|seen| {
        let alloc = allocator::<AfterRcuGp>();
        let objects: [_; 4] = std::array::from_fn(|_| take(&alloc));
        let domain = alloc.domain().clone();
        let section = domain.pin();
        let (there, here) = (alloc.clone(), alloc.clone());
        let defer = move || {
            for object in objects {
                there.writes_plain(object);
                give_rcu(&there, object);
            }
        };
        // Loom does not see the counts of the lists; it sees the epoch.
        let refill = || {
            drop(section);
            let _ = here.domain().start_poll();
            take(&here)
        };
        let ((), got) = beside(1, defer, refill);
        seen.note("refilled from the other CPU", objects.contains(&got));

        adds_up(&alloc, 1, seen);
        give(&alloc, got);
        adds_up(&alloc, 0, seen);
    });
}

/// Both CPUs give a batch away and refill, through the same lists.
#[test]
fn batches_cross_without_loss() {
    let model = Model {
        name: "batches_cross_without_loss",
        bound: Some(3),
        least: 100,
        happens: &["each took the other's", "each took its own"],
    };
    model.explore(|seen| {
        let alloc = allocator::<Immediate>();
        // Fills the cache of a CPU. Returns the object that will be one too many, and the oldest
        // object of the cache, which the CPU will give away for it.
        let fill = |cpu| {
            run_on(cpu);
            let objects: [_; 3] = std::array::from_fn(|_| take(&alloc));
            give(&alloc, objects[0]);
            give(&alloc, objects[1]);
            (objects[2], objects[0])
        };
        let (there, here) = (fill(1), fill(0));
        let work = |alloc: Arc<MemAlloc<Immediate>>, (one_too_many, given_away)| {
            move || {
                give(&alloc, one_too_many);
                // Two from the cache, the third from a batch.
                let got: [_; 3] = std::array::from_fn(|_| take(&alloc));
                (given_away, got)
            }
        };
        let (there, here) = beside(1, work(alloc.clone(), there), work(alloc.clone(), here));
        let (first, second) = (there.1, here.1);
        assert!(first.iter().all(|object| !second.contains(object)), "handed out twice");
        seen.note("each took the other's", first.contains(&here.0) && second.contains(&there.0));
        seen.note("each took its own", first.contains(&there.0) && second.contains(&here.0));

        adds_up(&alloc, 6, seen);
        first.into_iter().chain(second).for_each(|object| give(&alloc, object));
        adds_up(&alloc, 0, seen);
    });
}
