//! What an allocator holds of the system's memory, and when it gives that back.
#![cfg(not(loom))]

mod common;

use common::{Dice, Object, adds_up, behind, held_bytes, in_every_setup, layout, stay_on_this_cpu};
use memalloc::{MemAlloc, PolicyKind, ReusePolicy};
use std::sync::mpsc::sync_channel;
use std::thread;

const MIB: u64 = 1 << 20;

/// Objects of one size for 12 MiB.
fn burst<P: ReusePolicy>(alloc: &MemAlloc<P>, size: usize) -> Vec<Object> {
    let layout = layout(size, 1);
    let held = (0..12 * MIB / size as u64).map(|_| Object::new(alloc, layout, 1)).collect();
    assert!(alloc.backing_bytes() >= 12 * MIB);
    held
}

in_every_setup! {
    /// Nobody asks, and nobody allocates again: the frees themselves empty slabs, and empty slabs
    /// go. What stays is what may wait for the next allocation or for a grace period.
    fn after_a_burst_memory_goes_back_by_itself<P>(setup) {
        for size in [64, 512, 4096] {
            let alloc = setup.allocator::<P>();
            burst(&alloc, size).into_iter().for_each(|object| object.free(&alloc));
            let left = held_bytes(&alloc.stats());
            assert!(left < 3 * MIB, "{left} bytes are left of 12 MiB of {size} bytes each");
            adds_up(&alloc.stats(), 0);
        }
    }
}

in_every_setup! {
    /// Freed in any order, the objects that wait for the next allocation lie in every slab and
    /// keep it. `trim` takes them back, save those in the cache of a CPU (one here, with 64 of them, each
    /// in a slab of its own, at worst); `quiesce` all.
    fn after_a_burst_freed_in_disorder_trim_gives_memory_back<P>(setup) {
        stay_on_this_cpu();
        let alloc = setup.allocator::<P>();
        let mut dice = Dice::new(7);
        let mut held = burst(&alloc, 4096);
        while !held.is_empty() {
            held.swap_remove(dice.roll(held.len())).free(&alloc);
        }
        alloc.trim();
        let left = held_bytes(&alloc.stats());
        assert!(left < 6 * MIB, "{left} bytes are left after trim");
        alloc.quiesce().expect("no guard is held");
        assert_eq!(held_bytes(&alloc.stats()), 0);
    }
}

in_every_setup! {
    /// A flood of replaced objects, beside nobody and beside a thread that may read: once it is
    /// under way, no slab is taken into use, and none gives its memory back. Where every object goes
    /// to its slab, slabs are empty now and then: their memory stays, but for a few of the thousands of
    /// times when that happens more often than before.
    fn a_steady_flood_neither_takes_memory_nor_gives_it_back<P>(setup) {
        const LIVE: usize = 64;
        stay_on_this_cpu();
        for size in [64, 256, 1024, 4096] {
            let alloc = &setup.allocator::<P>();
            let layout = layout(size, 1);
            let flood = || {
                let mut held: Vec<_> = (0..LIVE).map(|_| Object::new(alloc, layout, 1)).collect();
                let mut replace = |turns: usize| {
                    for turn in 0..turns {
                        let object = Object::new(alloc, layout, 1);
                        std::mem::replace(&mut held[turn * 7 % LIVE], object).free(alloc);
                    }
                };
                // Barriers that adapt have settled after so many bytes.
                replace((64 * MIB) as usize / size);
                let before = alloc.stats();
                replace((16 * MIB) as usize / size);
                let after = alloc.stats();
                let released = after.slabs_released - before.slabs_released;
                if P::KIND == PolicyKind::FreeAfterRcuGp {
                    assert!(released <= 4, "{released} slabs of {size} bytes");
                } else {
                    assert_eq!(released, 0, "{size} bytes");
                    assert_eq!(after.backing_bytes, before.backing_bytes, "{size} bytes");
                    assert_eq!(after.slabs_opened, before.slabs_opened, "{size} bytes");
                }
                held.into_iter().for_each(|object| object.free(alloc));
            };
            flood();
            behind(|| alloc.domain().register(), flood);
        }
    }
}

in_every_setup! {
    /// Objects flow from the thread that allocates to the one that frees, at most `FLIGHT` on the
    /// way: what the allocator holds does not depend on how many there were.
    fn a_thread_that_only_frees_never_piles_up_what_another_allocates<P>(setup) {
        const FLIGHT: u64 = 256;
        for (size, count) in [(64, 200_000), (256, 80_000), (4096, 8_000)] {
            let alloc = setup.allocator::<P>();
            let most = thread::scope(|scope| {
                let (give, take) = sync_channel::<Object>(FLIGHT as usize);
                let alloc = &alloc;
                scope.spawn(move || take.into_iter().for_each(|object| object.free(alloc)));
                let mut most = 0;
                for number in 0..count {
                    give.send(Object::new(alloc, layout(size, 1), 1)).expect("a receiver");
                    if number % 64 == 0 {
                        most = most.max(alloc.backing_bytes());
                    }
                }
                most
            });
            let (flow, bound) = (count * size as u64, FLIGHT * size as u64 + 4 * MIB);
            assert!(most <= bound, "{most} bytes held while {flow} went by, {bound} allowed");
            adds_up(&alloc.stats(), 0);
        }
    }
}

in_every_setup! {
    /// What a burst leaves goes back while the program is idle, whatever the order in which it was
    /// freed: nothing ready is kept that nobody needs.
    fn memory_goes_back_while_nobody_needs_it<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(512, 1);
        let mut dice = Dice::new(7);
        let mut held: Vec<_> = (0..60_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        let most = alloc.backing_bytes();
        while !held.is_empty() {
            let number = dice.roll(held.len());
            held.swap_remove(number).free(&alloc);
        }
        // The first round sees what is there, the second that nobody needed it, the third that no
        // reader does; one more for a grace period that was under way.
        (0..4).for_each(|_| alloc.tend());
        let left = alloc.backing_bytes();
        // What is in the caches of the CPUs may lie anywhere.
        let cached = alloc.stats().cached.objects;
        assert!(
            left < most * 2 / 3 && left <= (cached + 2) * (64 << 10),
            "{left} of {most} bytes: {cached} objects",
        );
        alloc.destroy().expect("nothing leaked");
    }
}
