//! A thread takes a cache's word beside restartable sequences.
//!
//! The sequences are assembly, which loom cannot run. Here one thread stands for the CPU that owns
//! the cache; the others come from elsewhere, each with a ticket. Between the look and the commit
//! of a sequence, the CPU checks whether a restart was asked for: if so, it executes a barrier and
//! begins again. It is also interrupted while it has the cache, and then begins nothing again.
//!
//! The word contains the count, so that a commit stores over a ticket that came after its look. The
//! commit for another array, whose count has its own word, does not. The restart may be refused.
//!
//! Claims: no two threads are in the arrays at once, and no thread is there before the writes of
//! the last one are visible; the word is free in the end; no object is lost or counted twice.
//! Assumptions: the kernel restarts as it documents, the threads of a CPU follow one another, and
//! the CPU's loads are Acquire, as on x86.

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread::{spawn, yield_now};
use std::{cell::Cell as Untracked, rc::Rc, sync::Arc, sync::atomic::AtomicUsize};

use crate::explore::{Exploration, explore};
use crate::table::{Expected, Table};

/// A word of the model: below `BUSY` the count, from `BUSY` on the holder of the cache.
const BUSY: u32 = 0x100;
const LOCAL: u32 = BUSY;
/// The number of objects at the start.
const AT_FIRST: u32 = 8;

/// The switches. [`SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
struct Protocol {
    tickets: [u32; 2],
    /// Sequence: the load of the word, which has to be free; whether an interruption makes it begin
    /// again.
    look: Option<Ordering>,
    begin_again: bool,
    /// Sequence: whether one load tells the count and the holder of the cache, or a second load
    /// does.
    one_look: bool,
    /// Elsewhere: the exchange for a ticket, and the load after the restart, which is compared.
    take: Ordering,
    restart: bool,
    enter_if: fn(u32, u32) -> bool,
    /// Elsewhere: whether the count is that of the exchange, or of an earlier load.
    count_of_exchange: bool,
    /// Elsewhere, other array: whether its count is loaded after the restart, or before.
    other_count_after: bool,
    /// Elsewhere: whether the system refuses the restart; and whether an exchange puts back the
    /// word that the ticket replaced, or a store.
    refused: bool,
    put_back_by_exchange: bool,
    /// The store that gives the cache back. ORDERING: pairs with `look` and `take`.
    leave: Ordering,
}

const SOUND: Protocol = Protocol {
    tickets: [BUSY + 1, BUSY + 2],
    look: Some(Acquire),
    begin_again: true,
    one_look: true,
    take: Acquire,
    restart: true,
    enter_if: |word, ticket| word == ticket,
    count_of_exchange: true,
    other_count_after: true,
    refused: false,
    put_back_by_exchange: true,
    leave: Release,
};

/// Each of these has to happen in some execution.
const EVENTS: [&str; 5] =
    ["entered from elsewhere", "lost to LOCAL", "lost to a pop", "restarted", "gave up"];
type Counts = [AtomicUsize; EVENTS.len()];

struct Cache {
    word: AtomicU32,
    /// loom reports an access that is not ordered after the last one.
    arrays: UnsafeCell<()>,
    /// The restarts asked for, and those executed; the CPU's own view of the latter.
    asked: AtomicU32,
    executed: AtomicU32,
    last_executed: Untracked<u32>,
    steps: AtomicU32,
    /// The number of objects that were taken.
    taken: AtomicUsize,
    /// The other array: the number of objects in it, pushed to it, and taken from it.
    other: AtomicU32,
    other_pushed: AtomicUsize,
    other_taken: AtomicUsize,
    counts: Arc<Counts>,
}

impl Cache {
    fn new(counts: Arc<Counts>) -> Self {
        Self {
            word: AtomicU32::new(AT_FIRST),
            arrays: UnsafeCell::default(),
            asked: AtomicU32::default(),
            executed: AtomicU32::default(),
            last_executed: Untracked::default(),
            steps: AtomicU32::default(),
            taken: AtomicUsize::default(),
            other: AtomicU32::default(),
            other_pushed: AtomicUsize::default(),
            other_taken: AtomicUsize::default(),
            counts,
        }
    }

    fn count(&self, event: &str) {
        let event = EVENTS.iter().position(|e| *e == event).expect("one of the events");
        self.counts[event].fetch_add(1, Relaxed);
    }

    /// Returns the word for one access. The step on a common counter is for loom, which otherwise
    /// does not see that a store may come before another thread's load if the storing thread loaded
    /// the word in between.
    fn word(&self) -> &AtomicU32 {
        self.steps.fetch_add(1, Relaxed);
        &self.word
    }

    fn touch(&self) {
        self.arrays.with_mut(|_| ());
    }

    /// Takes one of `count` objects, and returns the number left.
    fn take_one(&self, count: u32) -> u32 {
        assert!((1..=AT_FIRST).contains(&count), "claim: a count is one that was stored");
        self.taken.fetch_add(1, Relaxed);
        count - 1
    }

    /// The CPU's `pop` and `push`: their change and their commit are one step. The commit is a
    /// store. Here it is an exchange, so that it comes after a ticket that it stores over: loom
    /// leaves the stores of two threads without an order.
    fn pop(&self, p: &Protocol) {
        if let Some(count) = self.sequence(p) {
            self.touch();
            self.word().swap(self.take_one(count), Relaxed);
        }
    }

    /// The CPU's push to the other array, whose commit does not change the word.
    fn push_other(&self, p: &Protocol) {
        if self.sequence(p).is_some() {
            self.touch();
            self.other.store(self.other.load(Relaxed) + 1, Relaxed);
            self.other_pushed.fetch_add(1, Relaxed);
        }
    }

    fn enter(&self, p: &Protocol) {
        if let Some(count) = self.sequence(p) {
            self.word().swap(LOCAL, Relaxed);
            self.touch();
            self.interrupted(self.asked.load(Relaxed));
            self.touch();
            self.word().store(self.take_one(count), p.leave);
        }
    }

    /// A sequence up to its commit. Returns the count that it saw, or `None` if it gave up.
    fn sequence(&self, p: &Protocol) -> Option<u32> {
        loop {
            let look = || self.word().load(p.look.unwrap_or(Acquire));
            let word = look();
            let whose = if p.one_look { word } else { look() };
            if p.look.is_some() && whose >= BUSY {
                self.count("gave up");
                return None;
            }
            if !self.interrupted(self.asked.load(Relaxed)) || !p.begin_again {
                return Some(word % BUSY);
            }
            self.count("restarted");
        }
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
        let earlier = self.word().load(Relaxed);
        let mut seen = earlier;
        loop {
            if seen >= BUSY {
                return;
            }
            match self.word().compare_exchange(seen, ticket, p.take, Relaxed) {
                Ok(_) => break,
                Err(changed) => seen = changed,
            }
        }
        let count = if p.count_of_exchange { seen } else { earlier % BUSY };
        let other_before = self.other.load(Relaxed);
        if p.refused {
            if p.put_back_by_exchange {
                let _ = self.word().compare_exchange(ticket, seen, Relaxed, Relaxed);
            } else if self.word().load(Relaxed) == ticket {
                self.word().store(seen, Relaxed);
            }
            return;
        }
        if p.restart {
            self.restart_others();
        }
        let word = self.word().load(p.take);
        match word {
            LOCAL => self.count("lost to LOCAL"),
            ..LOCAL => self.count("lost to a pop"),
            _ => {}
        }
        if (p.enter_if)(word, ticket) {
            self.count("entered from elsewhere");
            self.touch();
            let other = if p.other_count_after { self.other.load(Relaxed) } else { other_before };
            self.other_taken.fetch_add(other as usize, Relaxed);
            self.other.store(0, Relaxed);
            self.word().store(self.take_one(count), p.leave);
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

/// A name, the steps of the CPU, and the number of other threads.
type Scenario = (&'static str, &'static [fn(&Cache, &Protocol)], usize);
const ONE: Scenario = ("one elsewhere", &[Cache::pop, Cache::enter, Cache::pop], 1);
const TWO: Scenario = ("two elsewhere", &[Cache::enter, Cache::pop], 2);
const OTHER: Scenario = ("the other array", &[Cache::push_other, Cache::push_other], 1);
const TURNED_AWAY: Scenario = ("restart refused", ONE.1, 1);
const REFUSED: Protocol = Protocol { refused: true, ..SOUND };

fn run((_, cpu, others): Scenario, p: Protocol) -> (Exploration, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let exploration = explore(1 + others, move || {
        let cache = Rc::new(Cache::new(Arc::clone(&counted)));
        let others = p.tickets[..others].iter().map(|&ticket| {
            let cache = Rc::clone(&cache);
            spawn(move || cache.enter_from_elsewhere(&p, ticket))
        });
        let others: Vec<_> = others.collect();
        cpu.iter().for_each(|step| step(&cache, &p));
        // The CPU runs no more sequences from here on.
        cache.interrupted(u32::MAX);
        others.into_iter().for_each(|other| other.join().expect("a panic ends the model"));
        let (word, taken) = (cache.word.load(Relaxed), cache.taken.load(Relaxed));
        assert!(word < BUSY, "claim: the word is free in the end");
        assert!(word as usize + taken == AT_FIRST as usize, "claim: every object is counted once");
        let other = cache.other.load(Relaxed) as usize + cache.other_taken.load(Relaxed);
        assert!(
            other == cache.other_pushed.load(Relaxed),
            "claim: so is every one of the other array"
        );
    });
    (exploration, counts)
}

#[test]
fn a_cache_is_taken_by_one_at_a_time() {
    let scenarios = [(ONE, SOUND), (TWO, SOUND), (OTHER, SOUND), (TURNED_AWAY, REFUSED)];
    for (scenario, protocol) in scenarios {
        let name = scenario.0;
        let (exploration, counts) = run(scenario, protocol);
        let bound = exploration.preemptions;
        println!("loom tickets/{name}: {exploration} (preemption bound {bound})");
        println!("  {EVENTS:?}: {counts:?}");
        assert_eq!(exploration.violation, None);
        if name.ends_with("elsewhere") {
            assert!(counts.iter().all(|count| count.load(Relaxed) > 0), "each has to happen");
        }
        exploration.record(name, None, None);
    }
}

fn by_a_store() -> Protocol {
    Protocol { put_back_by_exchange: false, ..REFUSED }
}

/// A mutation, the scenario in which it shows, and, if it does not show, the step that does the
/// same work.
type Mutation = (&'static str, fn(&mut Protocol), Scenario, Option<&'static str>);

const MUTATIONS: &[Mutation] = &[
    ("equal tickets", |p| p.tickets = [BUSY + 1; 2], TWO, None),
    ("no restart", |p| p.restart = false, ONE, None),
    ("barrier without restart", |p| p.begin_again = false, ONE, None),
    ("no check after the restart", |p| p.enter_if = |_, _| true, ONE, None),
    ("check for not free only", |p| p.enter_if = |word, _| word >= BUSY, ONE, None),
    ("sequence looks twice", |p| p.one_look = false, ONE, None),
    ("count before the exchange", |p| p.count_of_exchange = false, ONE, None),
    ("other count before the restart", |p| p.other_count_after = false, OTHER, None),
    ("refused, and put back by a store", |p| *p = by_a_store(), TURNED_AWAY, None),
    ("leave relaxed", |p| p.leave = Relaxed, ONE, None),
    ("take relaxed", |p| p.take = Relaxed, TWO, Some("the barriers of the restart")),
    ("sequence does not look", |p| p.look = None, ONE, None),
    ("sequence looks relaxed", |p| p.look = Some(Relaxed), ONE, None),
];

#[test]
fn every_step_of_taking_a_cache_is_needed() {
    let mut table = Table::new("tickets");
    for (name, apply, scenario, covered_by) in MUTATIONS {
        let mut protocol = SOUND;
        apply(&mut protocol);
        let (exploration, _) = run(*scenario, protocol);
        let expected = covered_by.map_or(Expected::FAILS, Expected::CoveredBy);
        table.add(name, expected, scenario.0, &exploration);
    }
    table.finish();
}
