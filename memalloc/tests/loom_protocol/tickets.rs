//! How a cache's `active` word is taken beside restartable sequences.
//!
//! The sequences are assembly, which loom can't run. Here one thread stands for the CPU that has
//! the cache; the others come from elsewhere, each with a ticket. Between the look and the commit
//! of a sequence the CPU sees whether a restart was asked for: if so, it executes a barrier and
//! begins again. While it has the cache it is interrupted, too, with nothing to begin again.
//!
//! What is claimed: nobody is in the arrays with somebody else, or before what was done there is
//! visible, and the word is free in the end. What is taken for granted: the kernel restarts as it
//! says, the threads of a CPU follow one another, and its loads are Acquire, as on x86.

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread::{spawn, yield_now};
use std::{cell::Cell as Untracked, rc::Rc, sync::Arc, sync::atomic::AtomicUsize};

use crate::explore::{Exploration, explore};

const FREE: u32 = 0;
const LOCAL: u32 = 1;

/// The switches. [`SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
struct Protocol {
    tickets: [u32; 2],
    /// Sequence: the load of the word, which has to be free, and what an interruption does.
    look: Option<Ordering>,
    begin_again: bool,
    /// Elsewhere: the exchange for a ticket, and the load after the restart, which is compared.
    take: Ordering,
    restart: bool,
    enter_if: fn(u32, u32) -> bool,
    /// The store that gives the cache back. ORDERING: pairs with `look` and `take`.
    leave: Ordering,
}

const SOUND: Protocol = Protocol {
    tickets: [2, 3],
    look: Some(Acquire),
    begin_again: true,
    take: Acquire,
    restart: true,
    enter_if: |word, ticket| word == ticket,
    leave: Release,
};

/// What has to happen in some execution.
const EVENTS: [&str; 4] = ["entered from elsewhere", "lost to LOCAL", "restarted", "gave up"];

#[derive(Default)]
struct Cache {
    active: AtomicU32,
    /// loom reports an access that is not ordered after the last one.
    arrays: UnsafeCell<()>,
    inside: Untracked<bool>,
    /// Restarts that were asked for, and that were executed; the CPU's own view of the latter.
    asked: AtomicU32,
    executed: AtomicU32,
    last_executed: Untracked<u32>,
    steps: AtomicU32,
    counts: Arc<[AtomicUsize; EVENTS.len()]>,
}

impl Cache {
    fn count(&self, event: &str) {
        let event = EVENTS.iter().position(|e| *e == event).expect("one of the events");
        self.counts[event].fetch_add(1, Relaxed);
    }

    /// For one access. The step on a common counter is for loom: it does not see that a store may
    /// come before another thread's load if the storing thread loaded the word in between.
    fn word(&self) -> &AtomicU32 {
        self.steps.fetch_add(1, Relaxed);
        &self.active
    }

    fn touch(&self) {
        assert!(!self.inside.get(), "claim: nobody is inside with somebody else");
        self.arrays.with_mut(|_| ());
    }

    /// Has the arrays for a while, in which others run.
    fn span(&self, p: &Protocol, interruption: impl FnOnce()) {
        self.touch();
        self.inside.set(true);
        interruption();
        self.arrays.with_mut(|_| ());
        self.word().store(FREE, p.leave);
        // loom lets nobody run between the store and this.
        self.inside.set(false);
    }

    /// The CPU's `pop` and `push`: what they change and their commit are one step.
    fn pop(&self, p: &Protocol) {
        if self.sequence(p) {
            self.touch();
        }
    }

    /// The commit is a store. As an exchange it has its place behind a ticket that it overwrites:
    /// loom leaves the stores of two threads without an order.
    fn enter(&self, p: &Protocol) {
        if self.sequence(p) {
            self.word().swap(LOCAL, Relaxed);
            self.span(p, || _ = self.interrupted());
        }
    }

    /// A sequence up to its commit: whether it comes to that.
    fn sequence(&self, p: &Protocol) -> bool {
        while p.look.is_none_or(|order| self.word().load(order) == FREE) {
            if !self.interrupted() || !p.begin_again {
                return true;
            }
            self.count("restarted");
        }
        self.count("gave up");
        false
    }

    fn interrupted(&self) -> bool {
        let asked = self.asked.load(Relaxed);
        asked > self.last_executed.get() && self.execute(asked)
    }

    fn execute(&self, asked: u32) -> bool {
        // ORDERING: pairs with both fences of `restart_others`. "no restart".
        fence(SeqCst);
        self.last_executed.set(asked);
        self.executed.store(asked, Relaxed);
        true
    }

    fn enter_from_elsewhere(&self, p: &Protocol, ticket: u32) {
        let taken = self.word().compare_exchange(FREE, ticket, p.take, Relaxed).is_ok();
        if taken && p.restart {
            self.restart_others();
        }
        let word = if taken { self.word().load(p.take) } else { FREE };
        if word == LOCAL {
            self.count("lost to LOCAL");
        }
        if taken && (p.enter_if)(word, ticket) {
            self.count("entered from elsewhere");
            self.span(p, || ());
        }
    }

    fn restart_others(&self) {
        // ORDERING: the system call is a barrier at both ends; pairs with `execute`.
        self.steps.fetch_add(1, Relaxed);
        fence(SeqCst);
        let ours = self.asked.fetch_add(1, Relaxed) + 1;
        while self.executed.load(Relaxed) < ours {
            yield_now();
        }
        self.steps.fetch_add(1, Relaxed);
        fence(SeqCst);
    }
}

/// What the CPU does, and how many others there are.
type Scenario = (&'static [fn(&Cache, &Protocol)], usize);
const ONE: Scenario = (&[Cache::pop, Cache::enter, Cache::pop], 1);
const TWO: Scenario = (&[Cache::enter, Cache::pop], 2);

fn run((cpu, others): Scenario, p: Protocol) -> (Exploration, [usize; EVENTS.len()]) {
    let counts = Arc::default();
    let counted = Arc::clone(&counts);
    let exploration = explore(1 + others, move || {
        let cache = Rc::new(Cache { counts: Arc::clone(&counted), ..Cache::default() });
        let others = p.tickets.map(|ticket| (ticket, Rc::clone(&cache))).into_iter().take(others);
        let others = others
            .map(|(ticket, cache)| spawn(move || cache.enter_from_elsewhere(&p, ticket)))
            .collect::<Vec<_>>();
        cpu.iter().for_each(|step| step(&cache, &p));
        // The CPU is outside of sequences from here on.
        cache.execute(u32::MAX);
        others.into_iter().for_each(|other| other.join().expect("a panic ends the model"));
        assert!(cache.active.load(Relaxed) == FREE, "claim: the word is free in the end");
    });
    (exploration, counts.each_ref().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)))
}

#[test]
fn a_cache_is_taken_by_one_at_a_time() {
    for (name, scenario) in [("one elsewhere", ONE), ("two elsewhere", TWO)] {
        let (exploration, counts) = run(scenario, SOUND);
        let bound = exploration.preemptions;
        println!("loom tickets/{name}: {exploration} (preemption bound {bound})");
        println!("  {EVENTS:?}: {counts:?}");
        assert_eq!(exploration.violation, None);
        assert!(counts.iter().all(|count| *count > 0), "each happens");
    }
}
