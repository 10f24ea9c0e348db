//! No call does more work the more has been held up. Work is the number of times that the call has
//! looked at a batch.

use super::MemAlloc;
use crate::batch::visits;
use crate::rcu::Domain;
use crate::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use std::alloc::Layout;
use std::time::Duration;

/// In batches.
const STALLS: [usize; 2] = [500, 5_000];

/// A call moves at most 8 batches along each of five parts of the path, and looks at each fewer
/// than ten times. It also moves up to two batches of objects that were freed while a cache was
/// busy, one at a time, of this CPU and class, and of every CPU and used class if it shares what
/// they have.
fn most_visits() -> u64 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    5 * 8 * 10 + (1 + cpus) * 2 * BATCH as u64
}

/// The smallest objects, of which a batch has the most.
const LAYOUT: Layout = Layout::new::<[u64; 2]>();
const BATCH: usize = 250;

/// Allocates an object and frees it deferred. Returns the work that took.
fn pair<P: ReusePolicy>(alloc: &MemAlloc<P>) -> u64 {
    let before = visits::so_far();
    let object = alloc.alloc(LAYOUT).expect("memory").cast();
    // SAFETY: the object came from there with this layout, and is freed once.
    unsafe { alloc.free_rcu(object, LAYOUT) };
    visits::so_far() - before
}

fn most_of<P: ReusePolicy>(alloc: &MemAlloc<P>, pairs: usize) -> u64 {
    (0..pairs).map(|_| pair(alloc)).max().unwrap_or(0)
}

/// The calls after a stall of `batches` batches, until all of these are gone.
fn most_work_after_a_stall<P: ReusePolicy>(batches: usize, max_pending: u64) -> u64 {
    // The thread itself is the reader: its frees do not wait for it.
    let domain = Domain::builder().stall_after(Duration::from_secs(1 << 30));
    let domain = domain.build().expect("a domain");
    let builder = MemAlloc::<P>::builder().domain(domain.clone()).max_pending(max_pending);
    let alloc = builder.build().expect("an allocator");
    let guard = (domain.pin(), domain.pin_trace());
    let during = most_of(&alloc, batches * BATCH);
    let held_up = || alloc.stats().pending.objects;
    assert!(held_up() as usize > (batches - 2) * BATCH, "it is held up");
    drop(guard);
    // Another one, behind which the calls that cannot wait continue.
    let guard = domain.pin();
    let inside = most_of(&alloc, 50 * BATCH);
    drop(guard);
    let mut after = 0;
    // Each call that moves batches moves at least one more than it adds.
    for _ in 0..batches {
        if held_up() as usize > 100 * BATCH {
            after = after.max(most_of(&alloc, BATCH));
        }
    }
    let left = held_up() as usize / BATCH;
    assert!(left <= 100, "{:?}: {left} of {batches} batches are left", P::KIND);
    during.max(inside).max(after)
}

/// The calls after `batches` batches of objects were freed while the cache was busy.
fn most_work_after_a_cache_was_busy(batches: usize) -> u64 {
    let alloc = MemAlloc::<AfterRcuGp>::new().expect("an allocator");
    let objects = batches * BATCH;
    let held: Vec<_> = (0..objects).map(|_| alloc.alloc_handle(LAYOUT).expect("memory")).collect();
    held.into_iter().for_each(|object| alloc.raw().push_extra(0, object));
    most_of(&alloc, objects)
}

fn is_bounded<P: ReusePolicy>(max_pending: u64) {
    for batches in STALLS {
        let most = most_work_after_a_stall::<P>(batches, max_pending);
        assert!(most <= most_visits(), "{:?}: {most} visits of {batches} batches", P::KIND);
    }
}

fn is_bounded_under_every_policy(max_pending: u64) {
    is_bounded::<Immediate>(max_pending);
    is_bounded::<AfterRcuGp>(max_pending);
    is_bounded::<FreeAfterRcuGp>(max_pending);
    is_bounded::<AfterTasksTraceGp>(max_pending);
}

#[test]
fn no_call_looks_at_more_batches_the_more_were_held_up() {
    is_bounded_under_every_policy(u64::MAX);
}

#[test]
fn nor_does_one_beyond_max_pending() {
    is_bounded_under_every_policy(256 << 10);
}

#[test]
fn nor_does_one_after_a_cache_was_busy() {
    for batches in STALLS {
        let most = most_work_after_a_cache_was_busy(batches);
        assert!(most <= most_visits(), "{most} visits of {batches} batches");
    }
}
