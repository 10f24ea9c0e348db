//! Readers that execute fences only while a word says so.
//!
//! A reader announces its section, loads the mode, and executes a fence if the mode is not PLAIN.
//! While every section has this fence, a thread that unlinks an object looks at the slots after its
//! own fence, and needs no barrier from other threads. The driver switches: to fences through
//! SETTLING and a membarrier, and back through SETTLING and a fence.
//!
//! Claim: no thread takes the object back while a section reads it. Only the driver switches, so it
//! knows the mode. A looker on another thread may see an older mode.

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::thread::{spawn, yield_now};
use std::{cell::Cell as Untracked, rc::Rc, sync::Arc, sync::atomic::AtomicUsize};

use crate::explore::{Exploration, explore_within};
use crate::table::{Expected, Table};

const PLAIN: u64 = 0;
/// Readers execute fences, but no thread relies on it.
const SETTLING: u64 = 1;
const FENCED: u64 = 2;

/// A step of a switch by the driver.
#[derive(Clone, Copy)]
enum Switch {
    Settle,
    Membarrier,
    Fence,
    Fenced(Ordering),
    Plain(Ordering),
}
use Switch::{Fence, Fenced, Membarrier, Plain, Settle};

/// A step of a looker, which checks whether a section is open.
#[derive(Clone, Copy)]
enum Look {
    OwnFence,
    Mode,
    Slot,
}
use Look::{Mode, OwnFence, Slot};

/// The switches. [`SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
struct Protocol {
    /// Enter: the announcement comes before the load of the mode.
    announce_first: bool,
    /// Enter: the load of the mode. Pairs with the store of PLAIN: a section without a fence has to
    /// see the unlinking by a looker that still saw FENCED.
    mode_load: Ordering,
    fences_if: fn(u64) -> bool,
    /// Leave: the end of the announcement. Pairs with the looker's load and the scan.
    slot_clear: Ordering,
    /// The store of FENCED pairs with the looker's load of the mode: the slots show the sections
    /// that have no fence.
    to_fenced: &'static [Switch],
    to_plain: &'static [Switch],
    grace_fence: bool,
    grace_membarrier_if: fn(u64) -> bool,
    look: [Look; 3],
    look_trusts: fn(u64) -> bool,
    look_mode: Ordering,
    look_slot: Ordering,
}

const SOUND: Protocol = Protocol {
    announce_first: true,
    mode_load: Acquire,
    fences_if: |mode| mode != PLAIN,
    slot_clear: Release,
    to_fenced: &[Settle, Membarrier, Fenced(Release)],
    to_plain: &[Settle, Fence, Plain(Release)],
    grace_fence: true,
    grace_membarrier_if: |mode| mode != FENCED,
    look: [OwnFence, Mode, Slot],
    look_trusts: |mode| mode == FENCED,
    look_mode: Acquire,
    look_slot: Acquire,
};

/// A step of a thread beside the reader.
#[derive(Clone, Copy)]
enum Step {
    ToFenced,
    ToPlain,
    Unlink,
    /// Begins a grace period: raises the epoch, and executes the barrier that the mode asks for.
    Begin,
    /// Takes the object back if no section is left that holds the grace period up.
    Scan,
    /// Takes the object back if no section is open, as far as that can be told without a barrier.
    Look,
}

/// The events that are counted.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A section reads the object after it saw PLAIN; the next two: SETTLING, FENCED.
    ReadPlain,
    ReadSettling,
    ReadFenced,
    /// A look finds a mode in which readers may have no fence.
    LookUnsure,
    LookInside,
    LookTakes,
    /// A scan finds a section that began before the object was unlinked; the next: after it.
    ScanWaits,
    ScanPasses,
    ScanTakes,
}
use Event::*;

#[derive(Debug, Default)]
struct Events([AtomicUsize; Event::ScanTakes as usize + 1]);

struct World {
    mode: AtomicU64,
    slot: AtomicU64,
    epoch: AtomicU64,
    linked: AtomicBool,
    /// loom reports an access that is not ordered after the last one of the other kind.
    object: UnsafeCell<()>,
    /// The membarrier that a driver asks for, and the last one that the reader executed.
    asked: AtomicU64,
    executed: AtomicU64,
    fences: AtomicU64,
    /// Each thread's own state: a load of the atomics would hide loads of other threads from loom.
    own_mode: Untracked<u64>,
    last_asked: Untracked<u64>,
    last_executed: Untracked<u64>,
    events: Arc<Events>,
}

impl World {
    fn new(mode: u64, events: Arc<Events>) -> Self {
        Self {
            mode: AtomicU64::new(mode),
            slot: AtomicU64::new(0),
            epoch: AtomicU64::new(1),
            linked: AtomicBool::new(true),
            object: UnsafeCell::new(()),
            asked: AtomicU64::new(0),
            executed: AtomicU64::new(0),
            fences: AtomicU64::new(0),
            own_mode: Untracked::new(mode),
            last_asked: Untracked::new(0),
            last_executed: Untracked::new(0),
            events,
        }
    }

    fn count(&self, event: Event) {
        self.events.0[event as usize].fetch_add(1, Relaxed);
    }

    fn fence(&self) {
        self.fences.fetch_add(1, Relaxed);
        fence(SeqCst);
    }

    // The reader.

    fn read(&self, p: &Protocol, sections: usize) {
        for _ in 0..sections {
            self.section(p);
        }
        // A thread that is switched out executes a barrier.
        self.execute(u64::MAX);
    }

    fn section(&self, p: &Protocol) {
        let early = (!p.announce_first).then(|| self.mode.load(p.mode_load));
        self.interrupt();
        let epoch = self.epoch.load(Acquire);
        self.interrupt();
        self.slot.store(epoch, Release);
        self.interrupt();
        let mode = early.unwrap_or_else(|| self.mode.load(p.mode_load));
        if (p.fences_if)(mode) {
            // ORDERING: pairs with the fence of a look, and of a grace period without a membarrier.
            // If this fence comes first, they see the announcement; if the other comes first, the
            // section sees the unlinking. "reader ignores the mode".
            self.fence();
        }
        self.interrupt();
        if self.linked.load(Acquire) {
            self.interrupt();
            self.object.with(|_| ());
            self.count([ReadPlain, ReadSettling, ReadFenced][mode as usize]);
        }
        self.slot.store(0, p.slot_clear);
    }

    /// The system interrupts the reader here, if a barrier was asked for and the reader notices.
    fn interrupt(&self) {
        let asked = self.asked.load(Relaxed);
        if asked > self.last_executed.get() {
            self.execute(asked);
        }
    }

    fn execute(&self, asked: u64) {
        // ORDERING: pairs with both fences of `membarrier`.
        fence(SeqCst);
        self.last_executed.set(asked);
        self.executed.store(asked, Relaxed);
    }

    // The driver, and lookers.

    /// Ends once the object is taken back.
    fn update(&self, p: &Protocol, steps: &[Step]) {
        for step in steps {
            let taken = match step {
                Step::ToFenced => self.switch(p.to_fenced),
                Step::ToPlain => self.switch(p.to_plain),
                Step::Unlink => {
                    self.linked.store(false, Release);
                    false
                }
                Step::Begin => self.begin(p),
                Step::Scan => self.scan(),
                Step::Look => self.look(p),
            };
            if taken {
                self.object.with_mut(|_| ());
                return;
            }
        }
    }

    fn switch(&self, moves: &[Switch]) -> bool {
        for to in moves {
            match *to {
                // Relaxed: the barrier or the fence that follows makes it visible.
                Settle => self.set(SETTLING, Relaxed),
                // ORDERING: pairs with the barrier that the reader executes. A section either is
                // announced before it, and shows, or loads the mode after it, and has a fence.
                Membarrier => self.membarrier(),
                // ORDERING: pairs with the fence of a look. If this fence comes first, the look
                // sees SETTLING; if the look's comes first, a reader that sees PLAIN sees the
                // unlinking.
                Fence => self.fence(),
                Fenced(order) => self.set(FENCED, order),
                Plain(order) => self.set(PLAIN, order),
            }
        }
        false
    }

    fn set(&self, mode: u64, order: Ordering) {
        self.mode.store(mode, order);
        self.own_mode.set(mode);
    }

    fn membarrier(&self) {
        self.fence();
        let asked = self.last_asked.get() + 1;
        self.last_asked.set(asked);
        self.asked.store(asked, Relaxed);
        while self.executed.load(Relaxed) < asked {
            yield_now();
        }
        self.fence();
    }

    fn begin(&self, p: &Protocol) -> bool {
        // ORDERING: pairs with the load of the epoch; the scan passes a reader that announces the
        // newer one.
        self.epoch.fetch_add(1, Release);
        if p.grace_fence {
            self.fence();
        }
        if (p.grace_membarrier_if)(self.own_mode.get()) {
            self.membarrier();
        }
        false
    }

    fn scan(&self) -> bool {
        let announced = self.slot.load(Acquire);
        self.count(match announced {
            0 => ScanTakes,
            1 => ScanWaits,
            _ => ScanPasses,
        });
        announced != 1
    }

    fn look(&self, p: &Protocol) -> bool {
        let (mut mode, mut slot) = (PLAIN, 0);
        for step in p.look {
            match step {
                OwnFence => self.fence(),
                Mode => mode = self.mode.load(p.look_mode),
                Slot => slot = self.slot.load(p.look_slot),
            }
        }
        let trusted = (p.look_trusts)(mode);
        self.count(match (trusted, slot) {
            (false, _) => LookUnsure,
            (true, 0) => LookTakes,
            (true, _) => LookInside,
        });
        trusted && slot == 0
    }
}

struct Scenario {
    name: &'static str,
    mode: u64,
    sections: usize,
    /// The driver, and a looker.
    others: &'static [&'static [Step]],
    preemptions: usize,
    /// Each of these has to happen in some execution.
    shows: &'static [Event],
}

use Step::{Begin, Look as TryLook, Scan, ToFenced, ToPlain, Unlink};

static SWITCH_THEN_LOOK: Scenario = Scenario {
    name: "switch, then look",
    mode: PLAIN,
    sections: 1,
    others: &[&[ToFenced, Unlink, TryLook]],
    preemptions: 4,
    shows: &[ReadPlain, ReadSettling, ReadFenced, LookInside, LookTakes],
};

static SWITCH_THEN_GRACE: Scenario = Scenario {
    name: "switch, then grace",
    others: &[&[ToFenced, Unlink, Begin, Scan]],
    shows: &[ReadPlain, ReadSettling, ReadFenced, ScanWaits, ScanPasses, ScanTakes],
    ..SWITCH_THEN_LOOK
};

static LOOK_BESIDE_SWITCH: Scenario = Scenario {
    name: "look beside switch",
    others: &[&[ToFenced], &[Unlink, TryLook]],
    preemptions: 2,
    shows: &[ReadPlain, ReadSettling, ReadFenced, LookUnsure, LookInside, LookTakes],
    ..SWITCH_THEN_LOOK
};

static LOOK_BESIDE_SWITCH_BACK: Scenario = Scenario {
    name: "look beside switch back",
    mode: FENCED,
    others: &[&[ToPlain], &[Unlink, TryLook]],
    preemptions: 3,
    ..LOOK_BESIDE_SWITCH
};

static SWITCH_BACK_THEN_GRACE: Scenario = Scenario {
    name: "switch back, then grace",
    mode: FENCED,
    others: &[&[ToPlain, Unlink, Begin, Scan]],
    shows: &[ReadPlain, ReadSettling, ReadFenced, ScanWaits, ScanPasses, ScanTakes],
    ..SWITCH_THEN_LOOK
};

/// The fence of the grace period is before the switch, and its scan after it. No section that sees
/// the switch finds the object.
static SWITCH_BACK_WITHIN_GRACE: Scenario = Scenario {
    name: "switch back within grace",
    others: &[&[Unlink, Begin, ToPlain, Scan]],
    shows: &[ReadFenced, ScanWaits, ScanPasses, ScanTakes],
    ..SWITCH_BACK_THEN_GRACE
};

/// The slot may show the end of the first section while the second is open.
static TWO_SECTIONS: Scenario =
    Scenario { name: "two sections", sections: 2, preemptions: 3, ..SWITCH_THEN_LOOK };

static THERE_AND_BACK: Scenario = Scenario {
    name: "there and back",
    others: &[&[ToFenced, ToPlain, Unlink, Begin, Scan]],
    preemptions: 3,
    ..SWITCH_THEN_GRACE
};

static BACK_AND_THERE: Scenario = Scenario {
    name: "back and there",
    mode: FENCED,
    others: &[&[ToPlain, ToFenced], &[Unlink, TryLook]],
    ..LOOK_BESIDE_SWITCH
};

static SCENARIOS: &[&Scenario] = &[
    &SWITCH_THEN_LOOK,
    &SWITCH_THEN_GRACE,
    &LOOK_BESIDE_SWITCH,
    &LOOK_BESIDE_SWITCH_BACK,
    &SWITCH_BACK_THEN_GRACE,
    &SWITCH_BACK_WITHIN_GRACE,
    &TWO_SECTIONS,
    &THERE_AND_BACK,
    &BACK_AND_THERE,
];

fn run(scenario: &'static Scenario, p: Protocol) -> (Exploration, Arc<Events>) {
    let events = Arc::new(Events::default());
    let counted = Arc::clone(&events);
    let exploration = explore_within(scenario.preemptions, move || {
        let world = Rc::new(World::new(scenario.mode, Arc::clone(&counted)));
        let others = scenario.others.iter().map(|steps| {
            let world = Rc::clone(&world);
            spawn(move || world.update(&p, steps))
        });
        let mut threads: Vec<_> = others.collect();
        // The main thread does nothing, so that a start with another thread than the reader is no
        // preemption.
        threads.push(spawn(move || world.read(&p, scenario.sections)));
        threads.into_iter().for_each(|thread| thread.join().expect("a panic ends the model"));
    });
    (exploration, events)
}

#[test]
fn no_section_loses_its_object_while_the_mode_changes() {
    for scenario in SCENARIOS {
        let (exploration, events) = run(scenario, SOUND);
        let (name, bound) = (scenario.name, exploration.preemptions);
        println!("loom adaptive/{name}: {exploration} (preemption bound {bound})");
        let seen = scenario.shows.iter().map(|&event| (event, &events.0[event as usize]));
        println!("  {:?}", seen.collect::<Vec<_>>());
        assert_eq!(exploration.violation, None);
        for event in scenario.shows {
            assert!(events.0[*event as usize].load(Relaxed) > 0, "{event:?} never happened");
        }
        exploration.record(name, None, None);
    }
}

/// A mutation, the scenario in which it shows, and, if it does not show, the step that does the
/// same work.
type Mutation = (&'static str, fn(&mut Protocol), &'static Scenario, Option<&'static str>);

const MUTATIONS: &[Mutation] = &[
    ("mode before the announcement", |p| p.announce_first = false, &SWITCH_THEN_LOOK, None),
    ("reader ignores the mode", |p| p.fences_if = |_| false, &SWITCH_THEN_LOOK, None),
    ("reader ignores SETTLING", |p| p.fences_if = |m| m == FENCED, &LOOK_BESIDE_SWITCH, None),
    (
        "reader ignores SETTLING, back",
        |p| p.fences_if = |m| m == FENCED,
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    ("mode loaded relaxed", |p| p.mode_load = Relaxed, &LOOK_BESIDE_SWITCH_BACK, None),
    ("mode loaded relaxed in grace", |p| p.mode_load = Relaxed, &SWITCH_BACK_WITHIN_GRACE, None),
    ("slot cleared relaxed", |p| p.slot_clear = Relaxed, &SWITCH_THEN_LOOK, None),
    (
        "switch without membarrier",
        |p| p.to_fenced = &[Settle, Fenced(Release)],
        &SWITCH_THEN_LOOK,
        None,
    ),
    (
        "switch with a fence only",
        |p| p.to_fenced = &[Settle, Fence, Fenced(Release)],
        &SWITCH_THEN_LOOK,
        None,
    ),
    (
        "switch without settling",
        |p| p.to_fenced = &[Membarrier, Fenced(Release)],
        &SWITCH_THEN_LOOK,
        None,
    ),
    (
        "FENCED relaxed",
        |p| p.to_fenced = &[Settle, Membarrier, Fenced(Relaxed)],
        &LOOK_BESIDE_SWITCH,
        Some("the end of the membarrier"),
    ),
    ("back without settling", |p| p.to_plain = &[Plain(Release)], &LOOK_BESIDE_SWITCH_BACK, None),
    (
        "back with a fence only",
        |p| p.to_plain = &[Fence, Plain(Release)],
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    (
        "back without its fence",
        |p| p.to_plain = &[Settle, Plain(Release)],
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    (
        "back settles behind its fence",
        |p| p.to_plain = &[Fence, Settle, Plain(Release)],
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    // With a single fence loom fails here, which is more than the language asks for: for loom, a
    // Relaxed store does not hand on what the fence before it learned from other fences.
    (
        "PLAIN relaxed",
        |p| p.to_plain = &[Settle, Fence, Fence, Plain(Relaxed)],
        &LOOK_BESIDE_SWITCH_BACK,
        Some("the fence before it"),
    ),
    (
        "PLAIN stored and loaded relaxed",
        |p| {
            p.to_plain = &[Settle, Fence, Fence, Plain(Relaxed)];
            p.mode_load = Relaxed;
        },
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    ("grace without its fence", |p| p.grace_fence = false, &SWITCH_THEN_GRACE, None),
    (
        "grace without membarrier",
        |p| p.grace_membarrier_if = |_| false,
        &SWITCH_BACK_THEN_GRACE,
        None,
    ),
    ("look before its fence", |p| p.look = [Mode, Slot, OwnFence], &SWITCH_THEN_LOOK, None),
    (
        "mode before the look's fence",
        |p| p.look = [Mode, OwnFence, Slot],
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    ("slot before the look's fence", |p| p.look = [Slot, OwnFence, Mode], &SWITCH_THEN_LOOK, None),
    ("slot before the mode", |p| p.look = [OwnFence, Slot, Mode], &LOOK_BESIDE_SWITCH, None),
    ("look trusts SETTLING", |p| p.look_trusts = |m| m != PLAIN, &LOOK_BESIDE_SWITCH, None),
    (
        "look trusts SETTLING, back",
        |p| p.look_trusts = |m| m != PLAIN,
        &LOOK_BESIDE_SWITCH_BACK,
        None,
    ),
    ("look at the mode relaxed", |p| p.look_mode = Relaxed, &LOOK_BESIDE_SWITCH, None),
    ("look at the slot relaxed", |p| p.look_slot = Relaxed, &SWITCH_THEN_LOOK, None),
];

#[test]
fn every_step_of_changing_the_mode_is_needed() {
    let mut table = Table::new("adaptive");
    for (name, apply, scenario, covered_by) in MUTATIONS {
        let mut protocol = SOUND;
        apply(&mut protocol);
        let (exploration, _) = run(scenario, protocol);
        let expected = covered_by.map_or(Expected::FAILS, Expected::CoveredBy);
        table.add(name, expected, scenario.name, &exploration);
    }
    table.finish();
}
