//! Tests how much of the system's memory an allocator holds, and when it returns it.
#![cfg(not(loom))]

mod common;

use common::{
    Dice, Object, Setup, adds_up, held_bytes, in_every_setup, layout, stay_on_another_cpu,
    stay_on_this_cpu,
};
use memalloc::rcu::Domain;
use memalloc::{KERNEL_SIZES, MemAlloc, PolicyKind, ReusePolicy};
use std::sync::mpsc::{TryRecvError, channel, sync_channel};
use std::thread;

const MIB: u64 = 1 << 20;

/// Allocates 12 MiB of objects of one size.
fn burst<P: ReusePolicy>(alloc: &MemAlloc<P>, size: usize) -> Vec<Object> {
    let layout = layout(size, 1);
    let held = (0..12 * MIB / size as u64).map(|_| Object::new(alloc, layout, 1)).collect();
    assert!(alloc.backing_bytes() >= 12 * MIB);
    held
}

in_every_setup! {
    /// Without any call of `trim` and without further allocations, the frees empty slabs, and empty
    /// slabs are returned. The rest may serve the next allocation or is pending.
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
    /// After frees in random order, the objects kept for the next allocation are spread over all
    /// slabs and keep them. `trim` returns them, except for those in the cache of a CPU (one CPU
    /// here, with 64 objects, at worst each in a different slab); `quiesce` returns all.
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
    /// Each free object that stays ready may keep a slab of 64 KiB, in the caches as well. The more
    /// slabs there are for few objects, the fewer objects stay: without any call after the last
    /// free.
    fn frees_in_any_order_leave_less_than_eight_mib_however_much_there_was<P>(setup) {
        const OBJECTS: usize = 200_000;
        stay_on_this_cpu();
        let alloc = setup.allocator::<P>();
        let mut dice = Dice::new(7);
        let mut held: Vec<_> = (0..OBJECTS).map(|_| Object::new(&alloc, layout(64, 1), 1)).collect();
        assert!(alloc.backing_bytes() >= 12 * MIB);
        while !held.is_empty() {
            held.swap_remove(dice.roll(held.len())).free(&alloc);
        }
        let left = held_bytes(&alloc.stats());
        assert!(left < 8 * MIB, "{left} bytes are left");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Another CPU has freed a part, and is idle: the objects that it keeps do not keep slabs, nor
    /// do those that did not fill a batch there.
    fn frees_in_any_order_on_two_cpus_leave_less_than_eight_mib<P>(setup) {
        const OBJECTS: usize = 200_000;
        stay_on_this_cpu();
        let alloc = setup.allocator::<P>();
        let mut dice = Dice::new(7);
        let mut held: Vec<_> = (0..OBJECTS).map(|_| Object::new(&alloc, layout(64, 1), 1)).collect();
        let mut free = |left: usize| {
            while held.len() > left {
                held.swap_remove(dice.roll(held.len())).free(&alloc);
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                stay_on_another_cpu();
                free(OBJECTS / 2);
            });
        });
        free(0);
        let left = held_bytes(&alloc.stats());
        assert!(left < 8 * MIB, "{left} bytes are left");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// A class keeps objects ready for its next allocation, unless only others are used meanwhile.
    fn classes_that_come_and_go_in_turn_leave_less_than_sixteen_mib<P>(setup) {
        const TIDE: usize = 6 << 20;
        stay_on_this_cpu();
        // The lists that all CPUs share do not depend on how a CPU finds its caches.
        if setup.cpu_mode != Setup::every()[0].cpu_mode {
            return;
        }
        let alloc = setup.allocator::<P>();
        for size in [KERNEL_SIZES, KERNEL_SIZES].concat() {
            let layout = layout(size, 1);
            let held: Vec<_> = (0..TIDE / size).map(|_| Object::new(&alloc, layout, 1)).collect();
            held.into_iter().for_each(|object| object.free(&alloc));
        }
        let left = held_bytes(&alloc.stats());
        assert!(left < 16 * MIB, "{left} bytes are left");
        adds_up(&alloc.stats(), 0);
    }
}

/// The other thread beside a stream of replaced objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    None,
    /// May read, but does not.
    Idle,
    /// Enters one section after the other.
    Busy,
    /// Stays in one section until the stream has gone on for a while, and then in another.
    Sitting,
}

/// Runs `flood` beside such a thread. The function passed to `flood` lets a sitting reader move on
/// to its next section.
fn beside(reader: Reader, domain: &Domain, flood: impl FnOnce(&dyn Fn())) {
    let (tell_inside, inside) = channel();
    let (let_go_on, go_on) = channel::<()>();
    thread::scope(|scope| {
        match reader {
            Reader::None => return flood(&|| ()),
            Reader::Idle => {
                _ = scope.spawn(move || {
                    domain.register();
                    tell_inside.send(()).expect("a receiver");
                    // An error: the stream has ended.
                    let _ = go_on.recv();
                })
            }
            Reader::Busy => {
                _ = scope.spawn(move || {
                    let _ = tell_inside.send(());
                    while go_on.try_recv() != Err(TryRecvError::Disconnected) {
                        (0..64).for_each(|_| drop(domain.pin()));
                    }
                })
            }
            Reader::Sitting => {
                _ = scope.spawn(move || {
                    loop {
                        let guard = domain.pin();
                        let _ = tell_inside.send(());
                        let over = go_on.recv().is_err();
                        drop(guard);
                        if over {
                            return;
                        }
                    }
                })
            }
        }
        inside.recv().expect("the reader is there");
        let let_go_on = let_go_on;
        flood(&|| {
            if reader == Reader::Sitting {
                let_go_on.send(()).expect("the reader is inside");
                inside.recv().expect("the reader is inside again");
            }
        });
    });
}

in_every_setup! {
    /// A steady stream of replaced objects, beside every kind of reader: once it is under way, it
    /// opens no further slab, and no slab returns its memory. Under the policy by which every
    /// object returns to its slab, slabs are empty at times; they keep their memory.
    fn a_steady_flood_neither_takes_memory_nor_gives_it_back<P>(setup) {
        const LIVE: usize = 64;
        // The bytes freed behind one section of a sitting reader.
        const SAT: usize = 3 << 19;
        const WARM: usize = 16 << 20;
        // As much as may be pending, and as much as caches hold.
        const MOST_HELD: u64 = 6 << 20;
        stay_on_this_cpu();
        // Slabs do not depend on how a CPU finds its caches.
        let is_first = setup.cpu_mode == Setup::every()[0].cpu_mode;
        let sizes = if is_first { &KERNEL_SIZES[..] } else { &[64, 4096] };
        for &size in sizes {
            let alloc = &setup.allocator::<P>();
            let layout = layout(size, 1);
            let mut held: Vec<_> = (0..LIVE).map(|_| Object::new(alloc, layout, 1)).collect();
            // Each reader starts with the state that the previous one left: a busy reader may also
            // sit, if its CPU is taken away.
            for reader in [Reader::None, Reader::Idle, Reader::Sitting, Reader::Busy] {
                beside(reader, alloc.domain(), |let_go_on| {
                    let mut replace = |bytes: usize| {
                        for turn in 0..bytes / size {
                            let object = Object::new(alloc, layout, 1);
                            std::mem::replace(&mut held[turn * 7 % LIVE], object).free(alloc);
                            if turn % (SAT / size) == 0 {
                                let_go_on();
                            }
                        }
                    };
                    // Adaptive barriers have settled after this many bytes.
                    replace(if reader == Reader::Sitting { 4 * WARM } else { WARM });
                    let before = alloc.stats();
                    replace(WARM / 2);
                    let after = alloc.stats();
                    let opened = after.slabs_opened - before.slabs_opened;
                    let released = after.slabs_released - before.slabs_released;
                    let held = after.backing_bytes;
                    let which = format!("{size} bytes, {reader:?}: {opened}, {released}, {held}");
                    match reader {
                        // The system may take the reader's CPU away at any time: only the bound
                        // holds.
                        Reader::Busy => assert!(held <= MOST_HELD, "{which}"),
                        // On a busy machine, adaptive barriers may change once more.
                        _ if after.barrier_switches != before.barrier_switches => {
                            assert!(held <= MOST_HELD, "{which}");
                        }
                        _ if P::KIND == PolicyKind::FreeAfterRcuGp => {
                            assert!(released <= 2 && held <= MOST_HELD, "{which}");
                        }
                        _ => {
                            assert_eq!((opened, released), (0, 0), "{which}");
                            assert_eq!(held, before.backing_bytes, "{which}");
                        }
                    }
                });
            }
            held.into_iter().for_each(|object| object.free(alloc));
        }
    }
}

in_every_setup! {
    /// 3 MiB of objects are allocated and freed over and over. Memory that was returned and then
    /// needed again is kept the next time, until it is no longer needed.
    fn memory_that_was_returned_and_needed_again_is_kept<P>(setup) {
        const TIDE: u64 = 3 << 20;
        stay_on_this_cpu();
        for size in [64, 1024, 4096] {
            let mut builder = setup.builder::<P>();
            if P::KIND == PolicyKind::FreeAfterRcuGp {
                // With what is pending, less than the 4 MiB beyond which slabs stay for a second.
                builder = builder.max_pending(TIDE / 4);
            }
            let alloc = builder.build().expect("an allocator");
            let layout = layout(size, 1);
            let tide = || {
                let held: Vec<_> =
                    (0..TIDE / size as u64).map(|_| Object::new(&alloc, layout, 1)).collect();
                held.into_iter().for_each(|object| object.free(&alloc));
            };
            (0..5).for_each(|_| tide());
            let before = alloc.stats();
            (0..3).for_each(|_| tide());
            let after = alloc.stats();
            assert_eq!(after.slabs_released, before.slabs_released, "{size} bytes");
            if P::KIND != PolicyKind::FreeAfterRcuGp {
                assert_eq!(after.slabs_opened, before.slabs_opened, "{size} bytes");
            }
            (0..4).for_each(|_| alloc.tend());
            let left = held_bytes(&alloc.stats());
            assert!(left < TIDE / 2, "{left} bytes of {size} bytes each stay unneeded");
        }
    }
}

in_every_setup! {
    /// Objects flow from the thread that allocates to the one that frees, with at most `FLIGHT` on
    /// the way: the memory held does not depend on their number.
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
    /// Memory that a burst leaves is returned while the program is idle, in whatever order it was
    /// freed: no unneeded object is kept ready.
    fn unneeded_memory_goes_back_while_the_program_is_idle<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(512, 1);
        let mut dice = Dice::new(7);
        let mut held: Vec<_> = (0..60_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        let most = alloc.backing_bytes();
        while !held.is_empty() {
            let number = dice.roll(held.len());
            held.swap_remove(number).free(&alloc);
        }
        // The first round records the objects, the second finds them unneeded, the third finds no
        // reader that needs them, and the fourth covers a grace period that was under way.
        (0..4).for_each(|_| alloc.tend());
        let left = alloc.backing_bytes();
        // The objects in the caches of the CPUs may be anywhere.
        let cached = alloc.stats().cached.objects;
        assert!(
            left < most * 2 / 3 && left <= (cached + 2) * (64 << 10),
            "{left} of {most} bytes: {cached} objects",
        );
        alloc.destroy().expect("nothing leaked");
    }
}
