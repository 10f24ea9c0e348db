//! Pending objects move along by the calls that a program makes, whichever these are, and no call
//! moves more than a bounded number of them.
#![cfg(not(loom))]

mod common;

use common::{Object, adds_up, behind, in_every_setup, layout, stay_on_this_cpu};
use memalloc::PolicyKind;
use std::thread;

/// Failures in a row after which a program counts as starved. Pending objects are looked at every
/// 150 µs, so a few thousand are usual.
const STARVED: u32 = 5_000_000;

in_every_setup! {
    /// Two threads call nothing but `alloc_nowait` and `free_rcu`, as signal handlers do.
    fn allocations_that_may_not_wait_and_deferred_frees_do_not_starve<P>(setup) {
        const CALLS: u32 = 30_000;
        const HELD: usize = 300;
        let alloc = setup.allocator::<P>();
        let layout = layout(64, 8);
        alloc.prefill(layout, 1_000).expect("memory");
        thread::scope(|scope| {
            for pattern in 0..2 {
                let alloc = &alloc;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    let mut failures = 0;
                    for _ in 0..CALLS {
                        match alloc.alloc_nowait(layout) {
                            Ok(memory) => {
                                held.push(Object::filled(memory.cast(), layout, pattern));
                                failures = 0;
                            }
                            Err(_) => failures += 1,
                        }
                        while failures > 0 && failures < STARVED && held.is_empty() {
                            match alloc.alloc_nowait(layout) {
                                Ok(memory) => {
                                    held.push(Object::filled(memory.cast(), layout, pattern));
                                    failures = 0;
                                }
                                Err(_) => failures += 1,
                            }
                        }
                        assert!(failures < STARVED, "starved: {:?}", alloc.stats());
                        if failures > 0 || held.len() == HELD {
                            held.drain(..).for_each(|object| object.free_rcu(alloc));
                        }
                    }
                    held.into_iter().for_each(|object| object.free_rcu(alloc));
                });
            }
        });
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Objects that a stall has held up return to the slabs in steps, so that the first free after
    /// it is as fast as others. (Under `FreeAfterRcuGp` the steps are larger.)
    fn a_free_after_a_stall_returns_a_bounded_number_of_objects<ProtectsIdentity>(setup) {
        const STALLED: u64 = 200_000;
        // The batches that leave the caches, and one that is under way already; and how many
        // objects stay out of their slabs.
        let (batches, stay) = match P::KIND {
            PolicyKind::FreeAfterRcuGp => (25, 20_000),
            _ => (9, STALLED / 2),
        };
        let most = batches * 250;
        stay_on_this_cpu();
        let alloc = setup.builder::<P>().max_pending(1 << 30).build().expect("an allocator");
        let layout = layout(16, 8);
        let enter = || (alloc.domain().pin(), alloc.domain().pin_trace());
        behind(enter, || {
            let objects: Vec<_> = (0..STALLED).map(|_| Object::new(&alloc, layout, 1)).collect();
            objects.into_iter().for_each(|object| object.free_rcu(&alloc));
        });
        let mut before = alloc.stats().taken.objects;
        assert!(before >= STALLED);
        let mut frees = 0;
        while before > stay {
            Object::new(&alloc, layout, 2).free_rcu(&alloc);
            let now = alloc.stats().taken.objects;
            assert!(before.saturating_sub(now) <= most, "{before} to {now} in one free");
            before = now;
            frees += 1;
            assert!(frees < 200_000, "{before} objects are still out of their slabs");
        }
    }
}
