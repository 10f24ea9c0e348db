//! Grace periods reduced to their protocol: readers that announce epochs, an updater that unlinks
//! one object, drivers that move the epoch, and a switch for every step.

use loom::cell::Cell;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use loom::thread::yield_now;
use std::cell::Cell as Untracked;
use std::sync::Arc;

use crate::events::{Event, Events};

/// The barrier that orders the accesses of readers and drivers against each other.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Barrier {
    /// Both execute a SeqCst fence.
    Fences,
    /// The driver asks, and each reader executes its fence at the step where it is: between any two
    /// of its steps, or at its end.
    Membarrier,
}

/// The switches. [`Protocol::SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    /// Enter: the load of the epoch. Pairs with `cookie`: the driver does not wait for a reader
    /// that announces the newer epoch, so the reader has to see the unlinking in the older one.
    pub(crate) epoch_load: Ordering,
    /// Enter: the announcement. Pairs with `scan`: to a driver that need not wait, it is proof that
    /// the reader's earlier sections have ended.
    pub(crate) slot_store: Ordering,
    /// Enter: a barrier between the announcement and the first load of the section.
    pub(crate) light_barrier: bool,
    /// Enter: an inner section announces its own epoch.
    pub(crate) inner_enter_stores: bool,
    /// Leave: the end of the announcement. Pairs with `scan`.
    pub(crate) slot_clear: Ordering,
    /// Leave: an inner section ends the announcement.
    pub(crate) inner_leave_clears: bool,
    /// Read: the load of the pointer. Pairs with `unlink`.
    pub(crate) pointer_load: Ordering,
    /// Unlink: the store of the pointer to the other object.
    pub(crate) unlink: Ordering,
    pub(crate) cookie: Cookie,
    /// Drive: one driver at a time; the orderings that take and give up the flag. The barrier of
    /// one driver is before the scan of the next.
    pub(crate) driven: Option<(Ordering, Ordering)>,
    pub(crate) raise: Raise,
    /// Drive: a barrier before the scan.
    pub(crate) heavy_barrier: bool,
    /// Drive: the load of each slot.
    pub(crate) scan: Ordering,
    pub(crate) scan_every_slot: bool,
    pub(crate) waits_for: WaitsFor,
    /// Drive: the store that ends the grace period. Pairs with `poll`.
    pub(crate) completed: Ordering,
    /// Poll: the load of `completed`.
    pub(crate) poll: Ordering,
}

/// The way in which the updater takes a cookie.
#[derive(Clone, Copy)]
pub(crate) enum Cookie {
    /// A read-modify-write that changes nothing, so that the raise that ends the epoch either comes
    /// before it, and is seen by it, or comes after the unlinking.
    Rmw(Ordering),
    Load(Ordering),
}

/// The time at which the epoch is raised.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Raise {
    BeforeBarrier,
    AfterBarrier,
    AfterScan,
}

/// The readers that keep the epoch `old` from ending.
#[derive(Clone, Copy)]
pub(crate) enum WaitsFor {
    UpToOld,
    OlderThanOld,
    OldOnly,
}

impl Protocol {
    /// ORDERING: each field names its counterpart; `mutations` names the scenario that fails
    /// without it.
    pub(crate) const SOUND: Self = Self {
        epoch_load: Acquire,
        slot_store: Release,
        light_barrier: true,
        inner_enter_stores: false,
        slot_clear: Release,
        inner_leave_clears: false,
        pointer_load: Acquire,
        unlink: Release,
        cookie: Cookie::Rmw(Release),
        driven: Some((Acquire, Release)),
        raise: Raise::BeforeBarrier,
        heavy_barrier: true,
        scan: Acquire,
        scan_every_slot: true,
        waits_for: WaitsFor::UpToOld,
        completed: Release,
        poll: Acquire,
    };
}

/// A step of a reader.
#[derive(Clone, Copy)]
pub(crate) enum Read {
    Enter,
    /// Loads the pointer.
    Find,
    /// Reads the object that was found.
    Touch,
    Leave,
}

/// A step of an updater or a driver.
#[derive(Clone, Copy)]
pub(crate) enum Update {
    /// Replaces the first object by the second.
    Unlink,
    /// Takes a cookie after the unlinking.
    Stamp,
    /// Drives the grace period of the cookie, as far as readers allow.
    Drive,
    /// Takes the first object back if the cookie's grace period has passed.
    Reuse,
    /// Lets other threads run.
    Yield,
}

#[derive(Clone, Copy, PartialEq)]
enum Object {
    Blank,
    Live,
    TakenBack,
}

struct Reader {
    /// 0 outside of sections, else the announced epoch.
    slot: AtomicU64,
    /// The number of open sections. A reader that loaded its slot to know it would hide the scan's
    /// earlier loads from loom.
    open: Untracked<u32>,
    /// The barrier that a driver asks for, and the last one that was executed.
    asked: AtomicU64,
    executed: AtomicU64,
    last_executed: Untracked<u64>,
}

pub(crate) struct Domain {
    protocol: Protocol,
    barrier: Barrier,
    epoch: AtomicU64,
    completed: AtomicU64,
    driven: AtomicBool,
    /// The driver's view of `epoch` and `completed`, and the thread that raised the epoch;
    /// untracked for the reason given at `Reader::open`.
    driver_epoch: Untracked<u64>,
    driver_completed: Untracked<u64>,
    raised_by: Untracked<usize>,
    readers: Vec<Reader>,
    pointer: AtomicUsize,
    /// Plain memory: loom reports an access that is not ordered after the last one of the other
    /// kind.
    objects: [Cell<Object>; 2],
    /// Lets loom explore the order of SeqCst fences.
    fences: AtomicUsize,
    events: Arc<Events>,
}

impl Domain {
    pub(crate) fn new(
        protocol: Protocol,
        barrier: Barrier,
        readers: usize,
        events: Arc<Events>,
    ) -> Self {
        let reader = |_| Reader {
            slot: AtomicU64::new(0),
            open: Untracked::new(0),
            asked: AtomicU64::new(0),
            executed: AtomicU64::new(0),
            last_executed: Untracked::new(0),
        };
        Self {
            protocol,
            barrier,
            epoch: AtomicU64::new(1),
            completed: AtomicU64::new(0),
            driven: AtomicBool::new(false),
            driver_epoch: Untracked::new(1),
            driver_completed: Untracked::new(0),
            raised_by: Untracked::new(usize::MAX),
            readers: (0..readers).map(reader).collect(),
            pointer: AtomicUsize::new(0),
            objects: [Cell::new(Object::Live), Cell::new(Object::Blank)],
            fences: AtomicUsize::new(0),
            events,
        }
    }

    /// A fence that is also a step. For loom a fence alone is not a step: no other thread runs
    /// between it and the step before it, so a driver's fence would always come with its raise of
    /// the epoch.
    fn seq_cst(&self) {
        self.fences.fetch_add(1, Relaxed);
        fence(SeqCst);
    }

    // Readers.

    pub(crate) fn read(&self, reader: usize, steps: &[Read]) {
        let reader = &self.readers[reader];
        let mut found = 0;
        for step in steps {
            self.interrupt(reader);
            match step {
                Read::Enter => self.enter(reader),
                Read::Find => found = self.pointer.load(self.protocol.pointer_load),
                Read::Touch => self.touch(found),
                Read::Leave => self.leave(reader),
            }
        }
        if self.barrier == Barrier::Membarrier {
            // A thread that is switched out executes a barrier.
            self.execute(reader, u64::MAX);
        }
    }

    fn enter(&self, reader: &Reader) {
        let outermost = reader.open.get() == 0;
        reader.open.set(reader.open.get() + 1);
        if !outermost && !self.protocol.inner_enter_stores {
            return;
        }
        let epoch = self.epoch.load(self.protocol.epoch_load);
        self.interrupt(reader);
        reader.slot.store(epoch, self.protocol.slot_store);
        if self.barrier == Barrier::Fences && self.protocol.light_barrier {
            // ORDERING: pairs with the heavy barrier. If this one is first, the scan sees the
            // announcement; if that one is first, the section sees the unlinking.
            // "light barrier removed".
            self.seq_cst();
        }
    }

    fn touch(&self, found: usize) {
        let object = self.objects[found].get();
        assert!(object == Object::Live, "claim: no reader reads an object that was taken back");
        self.events.count(if found == 0 { Event::Old } else { Event::New });
    }

    fn leave(&self, reader: &Reader) {
        reader.open.set(reader.open.get() - 1);
        if reader.open.get() == 0 || self.protocol.inner_leave_clears {
            reader.slot.store(0, self.protocol.slot_clear);
        }
    }

    /// The system interrupts the reader here, if a barrier was asked for and the reader notices.
    fn interrupt(&self, reader: &Reader) {
        if self.barrier == Barrier::Membarrier {
            let asked = reader.asked.load(Relaxed);
            if asked > reader.last_executed.get() {
                self.execute(reader, asked);
            }
        }
    }

    fn execute(&self, reader: &Reader, asked: u64) {
        if self.protocol.light_barrier {
            // ORDERING: the barrier that the system call executes on this processor; pairs with
            // both fences of `heavy`. "light barrier removed".
            fence(SeqCst);
        }
        reader.last_executed.set(asked);
        reader.executed.store(asked, Relaxed);
    }

    // Updaters and drivers.

    pub(crate) fn update(&self, thread: usize, steps: &[Update]) {
        let mut cookie = 1;
        for step in steps {
            match step {
                Update::Unlink => {
                    self.objects[1].set(Object::Live);
                    self.pointer.store(1, self.protocol.unlink);
                }
                Update::Stamp => {
                    cookie = match self.protocol.cookie {
                        Cookie::Rmw(order) => self.epoch.fetch_add(0, order),
                        Cookie::Load(order) => self.epoch.load(order),
                    }
                }
                Update::Drive => self.drive(thread, cookie),
                Update::Reuse => {
                    if self.completed.load(self.protocol.poll) >= cookie {
                        self.objects[0].set(Object::TakenBack);
                        self.events.count(Event::Reuse);
                        return;
                    }
                }
                Update::Yield => yield_now(),
            }
        }
    }

    /// Drives the grace period of `cookie`, unless another driver does.
    fn drive(&self, thread: usize, cookie: u64) {
        let Some((take, give_up)) = self.protocol.driven else {
            return self.advance(thread, cookie);
        };
        if !self.driven.swap(true, take) {
            self.advance(thread, cookie);
            self.driven.store(false, give_up);
        }
    }

    fn advance(&self, thread: usize, cookie: u64) {
        let old = self.driver_completed.get() + 1;
        if old > cookie {
            return;
        }
        if self.driver_epoch.get() == old {
            self.begin(thread, old);
        } else if self.raised_by.get() != thread {
            self.events.count(Event::Relay);
        }
        if self.readers_left(old) {
            if self.protocol.raise == Raise::AfterScan {
                self.raise(thread);
            }
            self.driver_completed.set(old);
            self.completed.store(old, self.protocol.completed);
        }
    }

    fn begin(&self, thread: usize, old: u64) {
        if self.protocol.raise == Raise::BeforeBarrier {
            self.raise(thread);
        }
        if self.protocol.heavy_barrier {
            self.heavy(old);
        }
        if self.protocol.raise == Raise::AfterBarrier {
            self.raise(thread);
        }
    }

    fn raise(&self, thread: usize) {
        // Relaxed: a link of the chain that the cookies' exchanges began.
        self.epoch.fetch_add(1, Relaxed);
        self.driver_epoch.set(self.driver_epoch.get() + 1);
        self.raised_by.set(thread);
    }

    fn heavy(&self, old: u64) {
        // ORDERING: pairs with the light barrier, see there. "heavy barrier removed".
        self.seq_cst();
        if self.barrier == Barrier::Membarrier {
            for reader in &self.readers {
                reader.asked.store(old, Relaxed);
            }
            for reader in &self.readers {
                while reader.executed.load(Relaxed) < old {
                    yield_now();
                }
            }
            // ORDERING: the system call ends with a barrier too.
            self.seq_cst();
        }
    }

    /// Returns whether every reader that keeps `old` from ending has left.
    fn readers_left(&self, old: u64) -> bool {
        let slots = if self.protocol.scan_every_slot { self.readers.len() } else { 1 };
        self.readers.iter().take(slots).all(|reader| {
            let announced = reader.slot.load(self.protocol.scan);
            let waits = match self.protocol.waits_for {
                WaitsFor::UpToOld => announced <= old,
                WaitsFor::OlderThanOld => announced < old,
                WaitsFor::OldOnly => announced == old,
            };
            let inside = announced != 0;
            if inside {
                self.events.count(if waits { Event::Waited } else { Event::Passed });
            }
            !inside || !waits
        })
    }
}
