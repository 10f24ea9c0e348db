//! Many threads on few CPUs that move between CPUs while they work: no object is handed out twice
//! or lost.
#![cfg(not(loom))]

mod common;

use common::{Dice, adds_up, claim, cpus, disclaim, in_every_setup, layout, run_on};
use memalloc::{MemAlloc, ReusePolicy};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// An object on its way to another thread.
struct Parcel {
    object: NonNull<u8>,
    size: usize,
    owner: u64,
}

// SAFETY: a parcel is the only holder of its object.
unsafe impl Send for Parcel {}

impl Parcel {
    fn new<P: ReusePolicy>(alloc: &MemAlloc<P>, size: usize, owner: u64) -> Option<Self> {
        let object = alloc.alloc(layout(size, 1)).ok()?.cast();
        claim(object, owner);
        Some(Self { object, size, owner })
    }

    /// Frees the object, in one of three ways.
    fn free<P: ReusePolicy>(self, alloc: &MemAlloc<P>, way: usize) {
        disclaim(self.object, self.owner);
        let layout = layout(self.size, 1);
        // SAFETY: the parcel was the only holder; these objects have no readers.
        unsafe {
            match way {
                0 => alloc.free(self.object, layout),
                1 => alloc.free_rcu(self.object, layout),
                _ => alloc.free_unshared(self.object, layout),
            }
        }
    }
}

in_every_setup! {
    /// More threads than CPUs allocate, keep some objects, free some in every way, and pass the
    /// rest on.
    fn nothing_is_handed_out_twice_while_threads_move_between_cpus<P>(setup) {
        const ROUNDS: usize = 15_000;
        let alloc = setup.allocator::<P>();
        let owners = AtomicU64::new(1);
        let threads = cpus() + 3;
        let (senders, receivers): (Vec<Sender<Parcel>>, Vec<Receiver<Parcel>>) =
            (0..threads).map(|_| channel()).unzip();
        thread::scope(|scope| {
            for (number, inbox) in receivers.into_iter().enumerate() {
                let (alloc, owners) = (&alloc, &owners);
                let outbox = senders[(number + 1) % threads].clone();
                scope.spawn(move || {
                    let mut dice = Dice::new(number as u64);
                    let mut held: Vec<Parcel> = Vec::new();
                    for round in 0..ROUNDS {
                        if round % 500 == 0 {
                            run_on((dice.roll(3) > 0).then(|| dice.roll(cpus())));
                        }
                        let size = [16, 16, 64, 64, 100, 600, 4096][dice.roll(7)];
                        let owner = owners.fetch_add(1, Ordering::Relaxed);
                        held.extend(Parcel::new(alloc, size, owner));
                        held.extend(inbox.try_recv());
                        while held.len() > 40 || (!held.is_empty() && dice.roll(2) == 0) {
                            let parcel = held.swap_remove(dice.roll(held.len()));
                            match dice.roll(4) {
                                0 => drop(outbox.send(parcel).map_err(|lost| lost.0.free(alloc, 0))),
                                way => parcel.free(alloc, way - 1),
                            }
                        }
                    }
                    drop(outbox);
                    held.extend(inbox);
                    held.into_iter().for_each(|parcel| parcel.free(alloc, 0));
                });
            }
            drop(senders);
        });
        adds_up(&alloc.stats(), 0);
        alloc.quiesce().expect("no guard is left");
        assert_eq!(alloc.stats().taken.objects, 0);
    }
}

in_every_setup! {
    /// One thread allocates, another frees. Objects that the second frees reach the first again.
    fn objects_that_go_from_thread_to_thread_take_no_more_memory_with_time<P>(setup) {
        const OBJECTS: u64 = 200_000;
        let alloc = setup.allocator::<P>();
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Parcel>(500);
        let most = AtomicU64::new(0);
        thread::scope(|scope| {
            let (alloc, most) = (&alloc, &most);
            scope.spawn(move || {
                for number in 1..=OBJECTS {
                    let parcel = Parcel::new(alloc, 64, number).expect("memory");
                    assert!(sender.send(parcel).is_ok(), "the consumer takes all");
                    if number % 5_000 == 0 {
                        most.fetch_max(alloc.stats().taken.objects, Ordering::Relaxed);
                    }
                }
            });
            scope.spawn(move || receiver.into_iter().for_each(|parcel| parcel.free(alloc, 0)));
        });
        let most = most.into_inner();
        // 500 under way, 1 MiB or 8192 objects pending, as many ready, and the caches.
        assert!(most < 60_000, "{most} objects for at most 502 in use");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// While a thread is preempted inside a cache, the others on its CPU cannot use that cache.
    /// They do not take fresh memory for every object meanwhile.
    fn threads_that_crowd_one_cpu_take_little_more_than_they_hold<P>(setup) {
        let alloc = setup.allocator::<P>();
        thread::scope(|scope| {
            for number in 1..=8 {
                let alloc = &alloc;
                scope.spawn(move || {
                    run_on(Some(0));
                    for _ in 0..60_000 {
                        Parcel::new(alloc, 256, number).expect("memory").free(alloc, 2);
                    }
                });
            }
        });
        // Each thread may be preempted with a batch of up to 250 between the slabs and a cache, and
        // each CPU's cache may have one.
        let most = (8 + cpus() as u64) * 250;
        let taken = alloc.stats().taken.objects;
        assert!(taken <= most, "{taken} objects for at most 8 in use");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    /// Several threads empty every CPU's cache, and count its contents, while others use it and are
    /// moved from CPU to CPU.
    fn quiesce_and_stats_may_run_beside_everything<P>(setup) {
        let alloc = setup.allocator::<P>();
        let owners = AtomicU64::new(1);
        let working = AtomicU64::new(3);
        thread::scope(|scope| {
            for number in 0..3 {
                let (alloc, owners, working) = (&alloc, &owners, &working);
                scope.spawn(move || {
                    let mut dice = Dice::new(number);
                    let mut held: Vec<Parcel> = Vec::new();
                    for round in 0..20_000 {
                        if round % 200 == 0 {
                            run_on((dice.roll(3) > 0).then(|| dice.roll(cpus())));
                        }
                        let owner = owners.fetch_add(1, Ordering::Relaxed);
                        held.extend(Parcel::new(alloc, [16, 64][dice.roll(2)], owner));
                        while held.len() > 200 || (!held.is_empty() && dice.roll(2) == 0) {
                            held.swap_remove(dice.roll(held.len())).free(alloc, dice.roll(3));
                        }
                    }
                    held.into_iter().for_each(|parcel| parcel.free(alloc, 0));
                    working.fetch_sub(1, Ordering::Relaxed);
                });
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    while working.load(Ordering::Relaxed) > 0 {
                        alloc.quiesce().expect("this thread does not read");
                        let stats = alloc.stats();
                        assert!(stats.taken.objects < 1_000_000, "{stats:?}");
                    }
                });
            }
        });
        adds_up(&alloc.stats(), 0);
        alloc.quiesce().expect("no guard is left");
        assert_eq!(alloc.stats().taken.objects, 0);
    }
}

in_every_setup! {
    /// Objects that one thread has freed are available to others, except for those that the caches
    /// keep: their high watermark and their reserve.
    fn beyond_its_reserve_a_cpu_keeps_no_free_objects<P>(setup) {
        for size in [64, 1024, 2048] {
            let alloc = setup.allocator::<P>();
            let take = || Parcel::new(&alloc, size, 1).expect("memory");
            let all: Vec<_> = (0..2_000).map(|_| take()).collect();
            thread::scope(|scope| {
                scope.spawn(|| all.into_iter().for_each(|parcel| parcel.free(&alloc, 2)));
            });
            // Ready objects beyond 1 MiB go back to the slabs.
            let before = alloc.stats();
            let marks = memalloc::Watermarks::for_size(size);
            let kept = (cpus() + 1) * (marks.high + marks.reserve);
            let there = (before.cached.objects as usize).saturating_sub(kept);
            assert!(there >= 100, "{before:?}");
            let again: Vec<_> = thread::scope(|scope| {
                let again = scope.spawn(|| (0..there).map(|_| take()).collect());
                again.join().expect("the thread does not panic")
            });
            assert!(alloc.stats().taken.objects <= before.taken.objects, "carved anew");
            again.into_iter().for_each(|parcel| parcel.free(&alloc, 2));
        }
    }
}
