//! The writers' half of the protocol as a model with switches: a lock for each life of a branch,
//! two locks to replace a branch, and the end of its life before the upper lock is released.
//!
//! The world has two levels: the root's slot names branch 0, whose slot 0 names branch 1. Writers
//! add a leaf to a branch by copying it, or replace a leaf in place; a reader looks up a leaf that
//! is always there. A writer whose place has changed gives up and reports it: a retry would add
//! nothing.
//!
//! The claims: a leaf that was inserted is there, no other writer's change undoes it, a leaf is
//! unlinked once, every lock is released in the end, and the reader finds its leaf.

use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::explore::{Exploration, explore};
use crate::table::{Expected, Table};

const UNLINKED: u32 = 1;
const LOCKED: u32 = 2;

/// The number of slots of a branch.
const SLOTS: usize = 3;
/// The number of attempts to take a lock. A holder waits for at most one other holder, which
/// finishes once it has run twice.
const PATIENCE: usize = 8;

/// The switches. [`Locking::SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
struct Locking {
    lock: Lock,
    /// The exchange that takes a lock. Pairs with `release`.
    acquire: Ordering,
    /// The store that releases a lock.
    release: Ordering,
    /// Under the lock the slot is compared with what was found.
    slot_check: bool,
    /// A copy is published locked, and stays locked until the life of the original is over.
    copy_locked: bool,
    /// When the life of the original ends.
    unlink: Unlink,
    /// The second writer takes the lock of the lower branch first.
    one_goes_upwards: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Lock {
    /// Fails if the branch is not in the life in which it was found.
    OfLife,
    /// Succeeds in any life.
    OfBranch,
    Never,
}

#[derive(Clone, Copy, PartialEq)]
enum Unlink {
    BeforeRelease,
    AfterRelease,
}

impl Locking {
    /// ORDERING: each field names what it pairs with; `MUTATIONS` shows what fails without it.
    const SOUND: Self = Self {
        lock: Lock::OfLife,
        acquire: Acquire,
        release: Release,
        slot_check: true,
        copy_locked: true,
        unlink: Unlink::BeforeRelease,
        one_goes_upwards: false,
    };
}

/// The content of a slot: nothing, a branch, or a leaf.
type Twig = u32;
const NOTHING: Twig = 0;
const fn branch(index: usize) -> Twig {
    1 + index as u32
}
fn index_of(twig: Twig) -> Option<usize> {
    (1..LEAVES).contains(&twig).then(|| twig as usize - 1)
}
const LEAVES: Twig = 100;
const A: Twig = LEAVES;
const B: Twig = LEAVES + 1;
const C: Twig = LEAVES + 2;
const D: Twig = LEAVES + 3;
const FOREIGN: Twig = LEAVES + 4;

/// A count and slots: of a branch, or of a root, which has one slot and one life.
struct Holder {
    count: AtomicU32,
    /// The current count, without the lock bit.
    known: Cell<u32>,
    slots: [AtomicU32; SLOTS],
}

impl Holder {
    fn new(count: u32, twigs: [Twig; SLOTS]) -> Self {
        let (known, slots) = (Cell::new(count), twigs.map(AtomicU32::new));
        Self { count: AtomicU32::new(count), known, slots }
    }

    /// Begins or ends a life.
    fn step(&self, count: u32, order: Ordering) {
        self.known.set(count);
        self.count.store(count, order);
    }
}

/// A slot as it was found: its holder, the holder's life, and the content.
#[derive(Clone, Copy)]
struct Spot<'w> {
    holder: &'w Holder,
    life: u32,
    slot: &'w AtomicU32,
    twig: Twig,
}

#[derive(Clone, Copy)]
enum Op {
    /// Adds a leaf at a free position, in a copy of the upper or the lower branch.
    Add { level: usize, at: usize, leaf: Twig, copy: usize },
    /// Replaces a leaf.
    Replace { level: usize, at: usize, leaf: Twig },
    /// Initialises a freed branch for another life, elsewhere.
    Reuse { index: usize },
}
use Op::{Add, Replace, Reuse};

/// Something changed on the path.
struct Retry;

/// A writer that is watched by a reader, or not. A load right before an exchange by the same thread
/// hides from loom that a reader had loaded the count before. A watched writer reads the count from
/// memory that loom does not see.
#[derive(Clone, Copy)]
enum Who {
    Watched,
    Unwatched,
}

struct World {
    locking: Locking,
    root: Holder,
    branches: [Holder; 4],
    /// The reports of writers. (A model's threads are coroutines of one thread.)
    put: RefCell<Vec<Twig>>,
    unlinked: RefCell<Vec<Twig>>,
}

impl World {
    fn new(locking: Locking) -> Self {
        Self {
            locking,
            root: Holder::new(0, [branch(0), NOTHING, NOTHING]),
            branches: [
                Holder::new(0, [branch(1), B, NOTHING]),
                Holder::new(0, [A, NOTHING, NOTHING]),
                Holder::new(UNLINKED, [NOTHING; SLOTS]),
                Holder::new(UNLINKED, [NOTHING; SLOTS]),
            ],
            put: RefCell::default(),
            unlinked: RefCell::default(),
        }
    }

    /// Finds slots as readers do: those on the path to the branch of a level, ending with slot `at`
    /// of that branch.
    fn find(&self, who: Who, level: usize, at: usize) -> Result<Vec<Spot<'_>>, Retry> {
        let slot = &self.root.slots[0];
        // ORDERING: pairs with the publication of a branch; a root has no count that changes.
        let twig = slot.load(Acquire);
        let mut way = vec![Spot { holder: &self.root, life: 0, slot, twig }];
        for depth in 0..=level {
            let above = *way.last().expect("it begins with the root's");
            let holder = &self.branches[index_of(above.twig).ok_or(Retry)?];
            // ORDERING: pairs with the count's store in `init`.
            let count = match who {
                Who::Watched => holder.known.get() & !LOCKED,
                Who::Unwatched => holder.count.load(Acquire),
            };
            if count & UNLINKED != 0 || above.slot.load(Relaxed) != above.twig {
                return Err(Retry);
            }
            confirm(above)?;
            let slot = &holder.slots[if depth == level { at } else { 0 }];
            let twig = slot.load(Relaxed);
            way.push(Spot { holder, life: count & !LOCKED, slot, twig });
            confirm(*way.last().expect("it was just put there"))?;
        }
        Ok(way)
    }

    fn lock(&self, spot: Spot<'_>) -> Result<(), Retry> {
        let mut expected = spot.life;
        for _ in 0..PATIENCE {
            match self.locking.lock {
                Lock::Never => return Ok(()),
                Lock::OfBranch => expected = spot.holder.count.load(Relaxed) & !LOCKED,
                Lock::OfLife => {}
            }
            let (count, taken) = (&spot.holder.count, expected | LOCKED);
            match count.compare_exchange(expected, taken, self.locking.acquire, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) if now & !LOCKED != expected => return Err(Retry),
                Err(_) => thread::yield_now(),
            }
        }
        panic!("claim: every lock is released in the end");
    }

    fn release(&self, spot: Spot<'_>) {
        spot.holder.count.store(spot.life, self.locking.release);
    }

    fn is_as_found(&self, spot: Spot<'_>) -> bool {
        !self.locking.slot_check || spot.slot.load(Relaxed) == spot.twig
    }

    fn run(&self, op: Op, (who, upwards): (Who, bool)) -> Result<(), Retry> {
        match op {
            Add { level, at, leaf, copy } => {
                let way = self.find(who, level, at)?;
                let [.., upper, lower] = way[..] else { unreachable!("the root and a branch") };
                self.add((upper, lower), (at, leaf), &self.branches[copy], upwards)
            }
            Replace { level, at, leaf } => {
                let way = self.find(who, level, at)?;
                let spot = way[level + 1];
                self.lock(spot)?;
                let unchanged = self.is_as_found(spot);
                if unchanged {
                    // ORDERING: as every publication.
                    spot.slot.store(leaf, Release);
                }
                self.release(spot);
                if unchanged {
                    self.put.borrow_mut().push(leaf);
                    self.unlinked.borrow_mut().push(spot.twig);
                    return Ok(());
                }
                Err(Retry)
            }
            Reuse { index } => {
                init(&self.branches[index], [FOREIGN, NOTHING, NOTHING], false);
                Ok(())
            }
        }
    }

    fn add(
        &self,
        (upper, lower): (Spot<'_>, Spot<'_>),
        (at, leaf): (usize, Twig),
        copy: &Holder,
        upwards: bool,
    ) -> Result<(), Retry> {
        let [first, second] = if upwards { [lower, upper] } else { [upper, lower] };
        self.lock(first)?;
        if self.lock(second).is_err() {
            self.release(first);
            return Err(Retry);
        }
        if !self.is_as_found(upper) || !self.is_as_found(lower) {
            self.release(second);
            self.release(first);
            return Err(Retry);
        }
        let mut twigs = [NOTHING; SLOTS];
        for (twig, slot) in twigs.iter_mut().zip(&lower.holder.slots) {
            *twig = slot.load(Relaxed);
        }
        twigs[at] = leaf;
        let born = init(copy, twigs, self.locking.copy_locked);
        let index = self.branches.iter().position(|branch| std::ptr::eq(branch, copy));
        // ORDERING: as every publication: a thread that sees the branch sees that it is
        // initialised.
        upper.slot.store(branch(index.expect("it is one of them")), Release);
        let end = || lower.holder.step(lower.life | UNLINKED, Relaxed);
        if self.locking.unlink == Unlink::BeforeRelease {
            end();
        }
        if self.locking.copy_locked {
            copy.count.store(born, self.locking.release);
        }
        self.release(upper);
        if self.locking.unlink == Unlink::AfterRelease {
            end();
        }
        self.put.borrow_mut().push(leaf);
        Ok(())
    }

    /// Runs a writer up to its first operation that gives up.
    fn write(&self, ops: &[Op], how: (Who, bool)) {
        // A writer that gave up must not reuse a branch that it did not free.
        let _gave_up = ops.iter().try_for_each(|op| self.run(*op, how));
    }

    /// The reader: returns true if it finds `A`, or has to retry.
    fn finds_a(&self) -> bool {
        self.find(Who::Unwatched, 1, 0).map_or(true, |way| way[2].twig == A)
    }

    /// Checks the world after all threads have ended.
    fn check(&self) {
        let mut there = Vec::new();
        let mut todo = vec![self.root.slots[0].load(Relaxed)];
        while let Some(twig) = todo.pop() {
            match index_of(twig) {
                Some(index) => {
                    let holder = &self.branches[index];
                    assert!(
                        holder.count.load(Relaxed) & (UNLINKED | LOCKED) == 0,
                        "claim: a linked branch is alive and unlocked"
                    );
                    todo.extend(holder.slots.iter().map(|slot| slot.load(Relaxed)));
                }
                None if twig != NOTHING => there.push(twig),
                None => {}
            }
        }
        let (put, mut unlinked) = (self.put.borrow(), self.unlinked.borrow_mut());
        let unlinkings = unlinked.len();
        unlinked.sort_unstable();
        unlinked.dedup();
        assert!(unlinked.len() == unlinkings, "claim: a leaf is unlinked once");
        let kept = put.iter().chain(&[A, B]).filter(|leaf| !unlinked.contains(leaf));
        assert!(kept.clone().all(|leaf| there.contains(leaf)), "claim: what was put is there");
        assert!(kept.count() == there.len(), "claim: nothing else is there");
    }
}

/// Checks that everything read from a branch so far belongs to the life in which it was found.
fn confirm(spot: Spot<'_>) -> Result<(), Retry> {
    // ORDERING: pairs with the fence in `init`.
    fence(Acquire);
    (spot.holder.count.load(Relaxed) & !LOCKED == spot.life).then_some(()).ok_or(Retry)
}

/// Begins the next life of a branch, and returns it.
fn init(holder: &Holder, twigs: [Twig; SLOTS], locked: bool) -> u32 {
    // ORDERING: as in `protocol`.
    fence(Release);
    for (slot, twig) in holder.slots.iter().zip(twigs) {
        slot.store(twig, Relaxed);
    }
    // ORDERING: pairs with the first load of the count in `find`.
    let life = (holder.known.get() | UNLINKED | LOCKED) + 1;
    holder.step(life | if locked { LOCKED } else { 0 }, Release);
    life
}

struct Scenario {
    name: &'static str,
    one: &'static [Op],
    other: &'static [Op],
    reads: bool,
    least: usize,
}

const fn two(
    name: &'static str,
    one: &'static [Op],
    other: &'static [Op],
    least: usize,
) -> Scenario {
    Scenario { name, one, other, reads: false, least }
}

static TWO_COPIES: Scenario = two(
    "two_copies",
    &[Add { level: 1, at: 1, leaf: C, copy: 2 }],
    &[Add { level: 1, at: 2, leaf: D, copy: 3 }],
    100,
);
static COPY_AND_REPLACE: Scenario = two(
    "copy_and_replace",
    &[Add { level: 1, at: 1, leaf: C, copy: 2 }],
    &[Replace { level: 1, at: 0, leaf: D }],
    100,
);
static TWO_REPLACE: Scenario = two(
    "two_replace",
    &[Replace { level: 1, at: 0, leaf: C }],
    &[Replace { level: 1, at: 0, leaf: D }],
    50,
);
static PARENT_AND_CHILD: Scenario = two(
    "parent_and_child",
    &[Add { level: 0, at: 2, leaf: C, copy: 2 }],
    &[Add { level: 1, at: 1, leaf: D, copy: 3 }],
    100,
);
/// One writer replaces the parent; another replaces the child, in the parent's copy, and reuses it:
/// the case of the frozen parent.
static PARENT_CHILD_AND_READER: Scenario = Scenario {
    name: "parent_child_and_reader",
    one: &[Add { level: 0, at: 2, leaf: C, copy: 2 }],
    other: &[Add { level: 1, at: 1, leaf: D, copy: 3 }, Reuse { index: 1 }],
    reads: true,
    least: 1000,
};

impl Scenario {
    fn explore(&'static self, locking: Locking) -> Exploration {
        explore(2 + 2 * usize::from(self.reads), move || {
            let world = Rc::new(World::new(locking));
            let who = if self.reads { Who::Watched } else { Who::Unwatched };
            let spawn = |ops: &'static [Op], upwards: bool| {
                let world = Rc::clone(&world);
                thread::spawn(move || world.write(ops, (who, upwards)))
            };
            let mut threads = vec![spawn(self.one, false)];
            if self.reads {
                threads.push(spawn(self.other, locking.one_goes_upwards));
                let world = Rc::clone(&world);
                threads.push(thread::spawn(move || {
                    assert!(world.finds_a(), "claim: a key that is always there is found");
                }));
            } else {
                world.write(self.other, (who, locking.one_goes_upwards));
            }
            for thread in threads {
                thread.join().expect("a panic ends the model at once");
            }
            world.check();
        })
    }
}

#[test]
fn writers_lose_nothing_and_do_not_wait_forever() {
    for scenario in
        [&TWO_COPIES, &COPY_AND_REPLACE, &TWO_REPLACE, &PARENT_AND_CHILD, &PARENT_CHILD_AND_READER]
    {
        let exploration = scenario.explore(Locking::SOUND);
        let (name, preemptions) = (scenario.name, exploration.preemptions);
        println!("loom locks/{name}: {exploration} (preemption bound {preemptions})");
        assert_eq!(exploration.violation, None);
        assert!(exploration.executions >= scenario.least, "at least {}", scenario.least);
        exploration.record(name, None, None);
    }
}

type Mutation = (&'static str, fn(&mut Locking), &'static Scenario, &'static str);

static MUTATIONS: &[Mutation] = &[
    ("no lock, two copies", |l| l.lock = Lock::Never, &TWO_COPIES, "what was put"),
    ("no lock, copy and replace", |l| l.lock = Lock::Never, &COPY_AND_REPLACE, "what was put"),
    ("no lock, two replace", |l| l.lock = Lock::Never, &TWO_REPLACE, "unlinked once"),
    ("lock not bound to a life", |l| l.lock = Lock::OfBranch, &COPY_AND_REPLACE, "what was put"),
    ("lock taken relaxed", |l| l.acquire = Relaxed, &COPY_AND_REPLACE, "what was put"),
    ("lock released relaxed", |l| l.release = Relaxed, &COPY_AND_REPLACE, "what was put"),
    ("slot not read under the lock", |l| l.slot_check = false, &TWO_REPLACE, "unlinked once"),
    (
        "copy not locked until the original's life is over",
        |l| l.copy_locked = false,
        &PARENT_CHILD_AND_READER,
        "always there",
    ),
    (
        "life ended after the locks were released",
        |l| l.unlink = Unlink::AfterRelease,
        &PARENT_CHILD_AND_READER,
        "always there",
    ),
    (
        "one takes the child's lock before the parent's",
        |l| l.one_goes_upwards = true,
        &TWO_COPIES,
        "released in the end",
    ),
];

#[test]
fn every_step_of_the_writers_is_needed() {
    let mut table = Table::new("locks");
    for (name, apply, scenario, claim) in MUTATIONS {
        let mut locking = Locking::SOUND;
        apply(&mut locking);
        table.add(name, Expected::Fails(claim), scenario.name, &scenario.explore(locking));
    }
    table.finish();
}
