//! The membarrier that is left out if no other thread has a slot.
//!
//! A reader claims a slot, executes a fence, and announces sections with no barrier except the one
//! that a driver asks for. The driver unlinks, raises the epoch, executes a fence, and asks for the
//! barrier only if another thread has the slot. The driver may have owned the slot before.

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::thread::{spawn, yield_now};
use std::{cell::Cell as Untracked, rc::Rc};

use crate::explore::{Exploration, explore_within};
use crate::table::{Expected, Table};

/// The switches. [`SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
struct Protocol {
    claim_fence: bool,
    look_after_fence: bool,
    /// Returns whether a claimed slot of this owner belongs to another thread.
    is_other: fn(u64) -> bool,
    /// The load of the claim. Pairs with the Release that gives the slot back.
    look: Ordering,
    give_back_last: bool,
    /// If no reader is in sight, no slot is scanned.
    at_once: bool,
}

/// With four preemptions, the exploration includes a reader that leaves between the driver's steps
/// and has not reached its last fence.
const PREEMPTIONS: usize = 4;

const READER: u64 = 1;
const DRIVER: u64 = 2;

const SOUND: Protocol = Protocol {
    claim_fence: true,
    look_after_fence: true,
    is_other: |owner| owner != DRIVER,
    look: Acquire,
    give_back_last: true,
    at_once: false,
};

struct World {
    claimed: AtomicBool,
    owner: AtomicU64,
    slot: AtomicU64,
    epoch: AtomicU64,
    linked: AtomicBool,
    object: UnsafeCell<()>,
    asked: AtomicBool,
    executed: AtomicBool,
    fences: AtomicU64,
    has_executed: Untracked<bool>,
}

impl World {
    fn fence(&self) {
        self.fences.fetch_add(1, Relaxed);
        fence(SeqCst);
    }

    fn interrupt(&self) {
        if !self.has_executed.get() && self.asked.load(Relaxed) {
            self.execute();
        }
    }

    fn execute(&self) {
        fence(SeqCst);
        self.has_executed.set(true);
        self.executed.store(true, Relaxed);
    }

    fn read(&self, p: &Protocol) {
        if self.claimed.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
            self.owner.store(READER, Relaxed);
            if p.claim_fence {
                self.fence();
            }
            self.interrupt();
            let epoch = self.epoch.load(Acquire);
            self.slot.store(epoch, Release);
            self.interrupt();
            if !p.give_back_last {
                self.give_back();
            }
            if self.linked.load(Acquire) {
                self.interrupt();
                self.object.with(|_| ());
            }
            self.slot.store(0, Release);
            if p.give_back_last {
                self.give_back();
            }
        }
        self.execute();
    }

    fn give_back(&self) {
        self.owner.store(0, Relaxed);
        self.claimed.store(false, Release);
    }

    fn others(&self, p: &Protocol) -> bool {
        self.claimed.load(p.look) && (p.is_other)(self.owner.load(Relaxed))
    }

    fn drive(&self, p: &Protocol) {
        self.give_back();
        self.linked.store(false, Release);
        self.epoch.fetch_add(1, Release);
        let early = !p.look_after_fence && self.others(p);
        self.fence();
        let others = if p.look_after_fence { self.others(p) } else { early };
        if others {
            self.asked.store(true, Relaxed);
            while !self.executed.load(Relaxed) {
                yield_now();
            }
            self.fence();
        }
        let announced = if p.at_once && !others { 0 } else { self.slot.load(Acquire) };
        if announced == 0 || announced > 1 {
            self.object.with_mut(|_| ());
        }
    }
}

fn run(p: Protocol) -> Exploration {
    explore_within(PREEMPTIONS, move || {
        let world = Rc::new(World {
            claimed: AtomicBool::new(true),
            owner: AtomicU64::new(DRIVER),
            slot: AtomicU64::new(0),
            epoch: AtomicU64::new(1),
            linked: AtomicBool::new(true),
            object: UnsafeCell::new(()),
            asked: AtomicBool::new(false),
            executed: AtomicBool::new(false),
            fences: AtomicU64::new(0),
            has_executed: Untracked::new(false),
        });
        let driver = Rc::clone(&world);
        let driver = spawn(move || driver.drive(&p));
        world.read(&p);
        driver.join().expect("a panic ends the model");
    })
}

#[test]
fn a_barrier_is_left_out_only_if_no_other_thread_reads() {
    for at_once in [false, true] {
        let exploration = run(Protocol { at_once, ..SOUND });
        let name = if at_once { "elision, at once" } else { "elision" };
        println!("loom {name}: {exploration}");
        assert_eq!(exploration.violation, None);
        exploration.record(name, None, None);
    }
}

/// Leaves a step out of the protocol.
type Mutation = fn(&mut Protocol);

const MUTATIONS: &[(&str, Mutation)] = &[
    ("claim without a fence", |p| p.claim_fence = false),
    ("driver looks before its fence", |p| p.look_after_fence = false),
    ("slot counted as one's own for good", |p| p.is_other = |_| false),
    ("slot given back inside its section", |p| (p.give_back_last, p.at_once) = (false, true)),
    ("look relaxed", |p| p.look = Relaxed),
    ("look relaxed, nothing scanned", |p| (p.look, p.at_once) = (Relaxed, true)),
];

#[test]
fn every_step_of_leaving_the_barrier_out_is_needed() {
    let mut table = Table::new("elision");
    for (name, apply) in MUTATIONS {
        let mut protocol = SOUND;
        apply(&mut protocol);
        table.add(name, Expected::FAILS, "elision", &run(protocol));
    }
    table.finish();
}
