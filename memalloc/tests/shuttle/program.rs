//! A program of 4 to 8 threads that share one allocator: each allocates, publishes, reads, frees in
//! every way, opens sections of both flavours, and drives grace periods, in a random order.

use super::common::{Dice, Setup, adds_up, layout};
use super::ledger::{Flavour, Ledger, Protection, Section};
use memalloc::rcu::{Domain, Guard, TraceGuard};
use memalloc::sync::{AtomicU32, AtomicU64, Ordering, thread};
use memalloc::{Handle, MemAlloc, PolicyKind, ReusePolicy};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// The sizes of objects. CPUs keep few of the large ones, so that these go all ways through the
/// allocator.
const SIZES: [usize; 3] = [64, 2048, 4096];

/// The words of an object that are written and read.
const WORDS: usize = 2;

/// The number of operations of all threads together.
const OPERATIONS: usize = 1600;

/// A thread holds at most this many objects that no other thread knows.
const MOST_OWN: usize = 12;

/// A reader looks again at so many of the objects that it has found in its section.
const MOST_SEEN: usize = 6;

/// Pending memory at which a free waits for readers: low enough to be reached.
const MAX_PENDING: u64 = 96 << 10;

/// A way to free an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ByPolicy,
    Deferred,
    Unshared,
}

/// An object, and the number that its words have.
#[derive(Clone, Copy, Debug)]
struct Object {
    place: NonNull<u8>,
    kind: usize,
    number: u64,
}

/// The words of an object have its number above and its kind below.
const KIND_BITS: u32 = 8;

/// Returns the first words of an object.
///
/// # Safety
///
/// The memory must be mapped for as long as the words are used.
unsafe fn words<'w>(place: NonNull<u8>) -> &'w [AtomicU64; WORDS] {
    // SAFETY: objects have 16 bytes or more, aligned to 16, and this program accesses them only in
    // this way.
    unsafe { place.cast().as_ref() }
}

/// The places where threads find the objects of others, each with objects of one kind.
struct Shared<P: ReusePolicy> {
    alloc: MemAlloc<P>,
    ledger: Ledger,
    published: [AtomicU32; 2 * SIZES.len()],
    numbers: AtomicU64,
    called: Arc<AtomicU64>,
}

/// A thread of the program.
struct Worker<'s, P: ReusePolicy> {
    shared: &'s Shared<P>,
    dice: Dice,
    own: Vec<Object>,
    reading: Option<Reading<Guard<'s>>>,
    sleeping: Option<Reading<TraceGuard<'s>>>,
    calls: u64,
}

/// An open section and the objects that were found in it.
struct Reading<G> {
    guard: G,
    section: Section,
    seen: Vec<Object>,
}

/// Returns what a section relies on in an object that was freed in it.
fn protection<P: ReusePolicy>(way: Way, flavour: Flavour) -> Protection {
    let defers = way == Way::Deferred || way == Way::ByPolicy && P::PROTECTS_IDENTITY;
    match (way, flavour) {
        (Way::Unshared, _) => Protection::None,
        (_, Flavour::Rcu) if defers => Protection::Identity,
        (_, Flavour::Rcu) => Protection::Type,
        (_, Flavour::TasksTrace) => match P::KIND {
            PolicyKind::FreeAfterRcuGp => Protection::None,
            PolicyKind::AfterTasksTraceGp if defers => Protection::Identity,
            _ => Protection::Type,
        },
    }
}

impl<P: ReusePolicy> Shared<P> {
    fn alloc(&self, kind: usize) -> Object {
        let place = self.alloc.alloc(layout(SIZES[kind], 1)).expect("memory").cast::<u8>();
        self.ledger.allocated(place.addr().get(), SIZES[kind]);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let object = Object { place, kind, number };
        // SAFETY: the object is live.
        let words = unsafe { words(place) };
        words.iter().for_each(|word| word.store(object.word(), Ordering::Relaxed));
        object
    }

    fn free(&self, object: Object, way: Way) {
        // SAFETY: the object is live.
        assert!(object.is_whole(unsafe { words(object.place) }), "a live object has changed");
        self.ledger.frees(object.place.addr().get(), |flavour| protection::<P>(way, flavour));
        let (place, layout) = (object.place, layout(SIZES[object.kind], 1));
        // SAFETY: allocated with this layout, and given up by its only holder. An unshared object
        // has never been published.
        unsafe {
            match way {
                Way::ByPolicy => self.alloc.free(place, layout),
                Way::Deferred => self.alloc.free_rcu(place, layout),
                Way::Unshared => self.alloc.free_unshared(place, layout),
            }
        }
    }

    /// Returns a published object, as far as its words tell.
    fn find(&self, place: usize) -> Option<Object> {
        // ORDERING: pairs with the exchange in `publish`. Falls to nothing: shuttle knows no
        // orders.
        let handle = Handle::new(self.published[place].load(Ordering::Acquire))?;
        let place_of = self.alloc.pointer(handle);
        // SAFETY: in a section, under a policy that keeps the memory mapped in it.
        let word = unsafe { words(place_of) }[0].load(Ordering::Relaxed);
        Some(Object { place: place_of, kind: place % SIZES.len(), number: word >> KIND_BITS })
    }
}

impl Object {
    fn word(&self) -> u64 {
        self.number << KIND_BITS | self.kind as u64
    }

    fn is_whole(&self, words: &[AtomicU64; WORDS]) -> bool {
        words.iter().all(|word| word.load(Ordering::Relaxed) == self.word())
    }

    /// Checks an object that was found in the open section.
    fn check(&self, protection: Protection) {
        if protection == Protection::None {
            return;
        }
        // SAFETY: the section is open, and its policy keeps the memory mapped.
        let words = unsafe { words(self.place) };
        if protection == Protection::Identity {
            assert!(self.is_whole(words), "an object has changed under its reader: {self:x?}");
        }
        let kind = words[0].load(Ordering::Relaxed) & ((1 << KIND_BITS) - 1);
        assert_eq!(kind, self.kind as u64, "an object of another size under its reader: {self:x?}");
    }
}

impl<'s, P: ReusePolicy> Worker<'s, P> {
    fn domain(&self) -> &'s Domain {
        self.shared.alloc.domain()
    }

    fn look<G>(shared: &Shared<P>, reading: &mut Reading<G>, flavour: Flavour, place: usize) {
        let protection = protection::<P>(Way::ByPolicy, flavour);
        if protection != Protection::None
            && let Some(object) = shared.find(place)
        {
            object.check(protection);
            reading.seen.push(object);
            if reading.seen.len() > MOST_SEEN {
                reading.seen.remove(0);
            }
        }
        reading.seen.iter().for_each(|object| object.check(protection));
    }

    fn end<G>(shared: &Shared<P>, reading: Reading<G>, flavour: Flavour) {
        let protection = protection::<P>(Way::ByPolicy, flavour);
        reading.seen.iter().for_each(|object| object.check(protection));
        shared.ledger.end(reading.section);
        drop(reading.guard);
    }

    fn read(&mut self) {
        let place = self.dice.roll(self.shared.published.len());
        let (shared, stays) = (self.shared, self.dice.roll(3) != 0);
        let mut reading = self.reading.take().unwrap_or_else(|| {
            let guard = shared.alloc.domain().pin();
            Reading { guard, section: shared.ledger.begin(Flavour::Rcu), seen: Vec::new() }
        });
        Self::look(shared, &mut reading, Flavour::Rcu, place);
        if stays {
            self.reading = Some(reading);
        } else {
            Self::end(shared, reading, Flavour::Rcu);
        }
    }

    fn read_asleep(&mut self) {
        let place = self.dice.roll(self.shared.published.len());
        let (shared, stays) = (self.shared, self.dice.roll(3) != 0);
        let mut sleeping = self.sleeping.take().unwrap_or_else(|| {
            let guard = shared.alloc.domain().pin_trace();
            Reading { guard, section: shared.ledger.begin(Flavour::TasksTrace), seen: Vec::new() }
        });
        Self::look(shared, &mut sleeping, Flavour::TasksTrace, place);
        if stays {
            self.sleeping = Some(sleeping);
        } else {
            Self::end(shared, sleeping, Flavour::TasksTrace);
        }
    }

    fn leave(&mut self) {
        if let Some(reading) = self.reading.take() {
            Self::end(self.shared, reading, Flavour::Rcu);
        }
        if let Some(sleeping) = self.sleeping.take() {
            Self::end(self.shared, sleeping, Flavour::TasksTrace);
        }
    }

    /// Replaces a published object, and frees the one before.
    fn publish(&mut self) {
        let place = self.dice.roll(self.shared.published.len());
        let object = self.shared.alloc(place % SIZES.len());
        let handle = self.shared.alloc.handle(object.place).get();
        // ORDERING: as in `find`.
        let old = self.shared.published[place].swap(handle, Ordering::AcqRel);
        if let Some(old) = Handle::new(old) {
            let place_of = self.shared.alloc.pointer(old);
            // SAFETY: the object is live, and this thread has unlinked it.
            let word = unsafe { words(place_of) }[0].load(Ordering::Relaxed);
            let kind = place % SIZES.len();
            let old = Object { place: place_of, kind, number: word >> KIND_BITS };
            let way = [Way::ByPolicy, Way::ByPolicy, Way::Deferred][self.dice.roll(3)];
            self.shared.free(old, way);
        }
    }

    fn free_own(&mut self, way: Way) {
        if !self.own.is_empty() {
            let which = self.dice.roll(self.own.len());
            self.shared.free(self.own.swap_remove(which), way);
        }
    }

    fn step(&mut self) {
        let (alloc, domain) = (&self.shared.alloc, self.domain());
        let is_outside = self.reading.is_none() && self.sleeping.is_none();
        match self.dice.roll(32) {
            0..7 if self.own.len() < MOST_OWN => {
                let kind = self.dice.roll(SIZES.len());
                self.own.push(self.shared.alloc(kind));
            }
            0..10 => self.free_own(Way::ByPolicy),
            10 => self.free_own(Way::Deferred),
            11 => self.free_own(Way::Unshared),
            12..18 => self.publish(),
            18..24 => self.read(),
            24..27 => self.read_asleep(),
            27 => self.leave(),
            28 => alloc.tend(),
            29 if is_outside => match self.dice.roll(4) {
                0 => domain.synchronize().expect("outside of sections"),
                1 => domain.trace().synchronize().expect("outside of sections"),
                2 => _ = alloc.quiesce().expect("outside of sections"),
                _ => _ = alloc.trim(),
            },
            30 => {
                let called = self.shared.called.clone();
                self.calls += 1;
                domain.call(move || _ = called.fetch_add(1, Ordering::Relaxed));
            }
            _ => {
                domain.advance(domain.start_poll());
                domain.run_callbacks();
            }
        }
    }

    /// Runs the thread. Returns the number of its callbacks.
    fn work(mut self, operations: usize) -> u64 {
        (0..operations).for_each(|_| self.step());
        self.leave();
        while !self.own.is_empty() {
            self.free_own(Way::ByPolicy);
        }
        self.calls
    }
}

/// Runs the program that a seed stands for.
pub(crate) fn run<P: ReusePolicy>(seed: u64) {
    let mut dice = Dice::new(seed);
    let setups = Setup::every();
    let setup = setups[dice.roll(setups.len())];
    let domain = Domain::builder().barrier_kind(setup.barrier);
    let domain = domain.stall_after(Duration::from_millis(1)).stall_handler(|_| ());
    let builder = setup.builder::<P>().domain(domain.build().expect("it is supported"));
    let shared = Arc::new(Shared {
        alloc: builder.max_pending(MAX_PENDING).build().expect("an allocator"),
        ledger: Ledger::default(),
        published: std::array::from_fn(|_| AtomicU32::new(0)),
        numbers: AtomicU64::new(1),
        called: Arc::new(AtomicU64::new(0)),
    });
    let threads = 4 + dice.roll(5);
    let begin = |number| {
        let (shared, dice) = (shared.clone(), Dice::new(seed ^ (number as u64 + 1)));
        thread::spawn(move || {
            let (own, reading, sleeping) = (Vec::new(), None, None);
            let worker = Worker { shared: &shared, dice, own, reading, sleeping, calls: 0 };
            worker.work(OPERATIONS / threads)
        })
    };
    let threads: Vec<_> = (0..threads).map(begin).collect();
    let join = |thread: thread::JoinHandle<u64>| thread.join().expect("it does not panic");
    let calls: u64 = threads.into_iter().map(join).sum();
    for place in 0..shared.published.len() {
        if let Some(object) = shared.find(place) {
            shared.free(object, Way::ByPolicy);
        }
    }
    assert_eq!(shared.ledger.live(), 0);
    let domain = shared.alloc.domain();
    domain.barrier().expect("outside of sections");
    assert_eq!(shared.called.load(Ordering::Relaxed), calls, "callbacks that have run");
    shared.alloc.quiesce().expect("outside of sections");
    let stats = shared.alloc.stats();
    adds_up(&stats, 0);
    assert_eq!(stats.taken.objects, 0, "objects outside of their slabs");
    assert_eq!(domain.stats().slots, 0, "slots of threads that have ended");
}
