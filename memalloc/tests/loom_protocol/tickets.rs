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
type Counts = [AtomicUsize; EVENTS.len()];

#[derive(Default)]
struct Cache {
    active: AtomicU32,
    /// loom reports an access that is not ordered after the last one.
    arrays: UnsafeCell<()>,
    /// Restarts that were asked for, and that were executed; the CPU's own view of the latter.
    asked: AtomicU32,
    executed: AtomicU32,
    last_executed: Untracked<u32>,
    steps: AtomicU32,
    counts: Arc<Counts>,
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
        self.arrays.with_mut(|_| ());
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
            self.touch();
            self.interrupted(self.asked.load(Relaxed));
            self.touch();
            self.word().store(FREE, p.leave);
        }
    }

    /// A sequence up to its commit: whether it comes to that.
    fn sequence(&self, p: &Protocol) -> bool {
        while p.look.is_none_or(|order| self.word().load(order) == FREE) {
            if !self.interrupted(self.asked.load(Relaxed)) || !p.begin_again {
                return true;
            }
            self.count("restarted");
        }
        self.count("gave up");
        false
    }

    fn interrupted(&self, asked: u32) -> bool {
        let interrupted = asked > self.last_executed.replace(asked);
        if interrupted {
            // ORDERING: pairs with both fences of `restart_others`. "no restart".
            fence(SeqCst);
            self.executed.store(asked, Relaxed);
        }
        interrupted
    }

    fn enter_from_elsewhere(&self, p: &Protocol, ticket: u32) {
        if self.word().compare_exchange(FREE, ticket, p.take, Relaxed).is_err() {
            return;
        }
        if p.restart {
            self.restart_others();
        }
        let word = self.word().load(p.take);
        if word == LOCAL {
            self.count("lost to LOCAL");
        }
        if (p.enter_if)(word, ticket) {
            self.count("entered from elsewhere");
            self.touch();
            self.word().store(FREE, p.leave);
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

fn run((cpu, others): Scenario, p: Protocol) -> (Exploration, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let exploration = explore(1 + others, move || {
        let cache = Rc::new(Cache { counts: Arc::clone(&counted), ..Cache::default() });
        let others = p.tickets[..others].iter().map(|&ticket| {
            let cache = Rc::clone(&cache);
            spawn(move || cache.enter_from_elsewhere(&p, ticket))
        });
        let others: Vec<_> = others.collect();
        cpu.iter().for_each(|step| step(&cache, &p));
        // From here on the CPU is outside of sequences.
        cache.interrupted(u32::MAX);
        others.into_iter().for_each(|other| other.join().expect("a panic ends the model"));
        assert!(cache.active.load(Relaxed) == FREE, "claim: the word is free in the end");
    });
    (exploration, counts)
}

#[test]
fn a_cache_is_taken_by_one_at_a_time() {
    for (name, scenario) in [("one elsewhere", ONE), ("two elsewhere", TWO)] {
        let (exploration, counts) = run(scenario, SOUND);
        let bound = exploration.preemptions;
        println!("loom tickets/{name}: {exploration} (preemption bound {bound})");
        println!("  {EVENTS:?}: {counts:?}");
        assert_eq!(exploration.violation, None);
        assert!(counts.iter().all(|count| count.load(Relaxed) > 0), "each has to happen");
    }
}

/// What is left out, where that shows, and if it does not, what does the same work.
type Mutation = (&'static str, fn(&mut Protocol), Scenario, Option<&'static str>);

const MUTATIONS: &[Mutation] = &[
    ("equal tickets", |p| p.tickets = [2, 2], TWO, None),
    ("no restart", |p| p.restart = false, ONE, None),
    ("barrier without restart", |p| p.begin_again = false, ONE, None),
    ("no check after the restart", |p| p.enter_if = |_, _| true, ONE, None),
    ("check for not free only", |p| p.enter_if = |word, _| word != FREE, ONE, None),
    ("leave relaxed", |p| p.leave = Relaxed, ONE, None),
    ("take relaxed", |p| p.take = Relaxed, TWO, Some("the barriers of the restart")),
    ("sequence does not look", |p| p.look = None, ONE, None),
    ("sequence looks relaxed", |p| p.look = Some(Relaxed), ONE, None),
];

#[test]
fn every_step_of_taking_a_cache_is_needed() {
    println!("loom tickets: each step left out, and how it shows");
    let mut surprises = Vec::new();
    for (name, apply, scenario, covered_by) in MUTATIONS {
        let mut protocol = SOUND;
        apply(&mut protocol);
        let (Exploration { violation, executions, .. }, _) = run(*scenario, protocol);
        // Any other panic is a mistake of the model.
        let claims = ["claim: ", "Causality violation: "];
        let caught = violation.as_ref().is_some_and(|v| claims.iter().any(|c| v.starts_with(c)));
        if caught == covered_by.is_some() || caught != violation.is_some() {
            surprises.push(name);
        }
        let covered = covered_by.map(|other| format!("not caught: covered by {other}"));
        let end = violation.or(covered).unwrap_or("NOT CAUGHT".to_owned());
        println!("  {name:28} execution {executions:>5}  {end}");
    }
    assert!(surprises.is_empty(), "not as expected: {surprises:?}");
}
