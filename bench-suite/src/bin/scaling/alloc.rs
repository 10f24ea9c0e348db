//! The allocator: pairs, batches of 64, and frees on another CPU, under every policy and beside
//! readers of every kind.

use super::machine::{Cpu, run};
use super::measured::Measured;
use memalloc::rcu::Domain;
use memalloc::{Handle, MemAlloc, PolicyKind, ReusePolicy};
use std::alloc::Layout;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

/// What is allocated.
const OBJECT: Layout = Layout::new::<[u64; 32]>();

/// Objects that are on their way from one CPU to another.
const UNDER_WAY: usize = 256;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Allocates an object and frees it.
    Pair,
    /// Allocates 64 objects and frees them.
    Batch,
    /// Allocates what another CPU frees.
    OtherCpu,
}

impl Shape {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Pair, Self::Batch, Self::OtherCpu];
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pair => "pair",
            Self::Batch => "batch of 64",
            Self::OtherCpu => "freed on another CPU",
        })
    }
}

/// What a CPU beside the workers does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// There is none.
    None,
    /// Has been in a section, and rests.
    Idle,
    /// Enters and leaves sections all the time.
    Busy,
}

impl Reader {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Idle, Self::Busy];
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Idle => "idle",
            Self::Busy => "busy",
        })
    }
}

/// Enters a section of the flavour that the policy waits for, and leaves it.
fn read<P: ReusePolicy>(domain: &Domain) {
    if P::KIND == PolicyKind::AfterTasksTraceGp {
        drop(domain.pin_trace());
    } else {
        drop(domain.pin());
    }
}

fn accompany<P: ReusePolicy>(domain: &Domain, reader: Reader, cpu: &Cpu) {
    read::<P>(domain);
    if reader == Reader::Busy {
        cpu.accompany(|| read::<P>(domain));
    } else {
        cpu.rest();
    }
}

/// Objects of a worker, before it counts and after: multiples of 64, and enough for what is pending
/// to reach its bound.
const WARM_UP: usize = 64 * 64;
const COUNTED: usize = 4 * 64;

/// What the experiment shares.
struct Shared<P: ReusePolicy> {
    domain: Domain,
    /// At the start of a line.
    alloc: Box<MemAlloc<P>>,
    /// From a CPU to its neighbour. The machine does not see it.
    rings: Vec<Mutex<VecDeque<Handle>>>,
}

impl<P: ReusePolicy> Shared<P> {
    fn new(workers: usize) -> Self {
        let domain = Domain::new();
        let alloc = MemAlloc::builder().domain(domain.clone()).build().expect("memory").into();
        let rings = (0..workers).map(|_| Mutex::default()).collect();
        Self { domain, alloc, rings }
    }

    fn take(&self) -> Handle {
        self.alloc.alloc_handle(OBJECT).expect("memory")
    }

    fn give(&self, object: Handle) {
        // SAFETY: `take` gave it, no reader knows it, and it is freed once.
        unsafe { self.alloc.free_handle(object, OBJECT) };
    }

    fn pass_on(&self, ring: usize, cpu: &Cpu) {
        let object = self.take();
        loop {
            let mut ring = self.rings[ring].lock().expect("no panic");
            if ring.len() < UNDER_WAY {
                return ring.push_back(object);
            }
            drop(ring);
            cpu.pause();
        }
    }

    fn free_passed(&self, ring: usize, cpu: &Cpu) {
        loop {
            let object = self.rings[ring].lock().expect("no panic").pop_front();
            match object {
                Some(object) => return self.give(object),
                None => cpu.pause(),
            }
        }
    }
}

/// Counts one of the shapes; `beside` is done with every object that is freed.
pub(crate) fn measure<P: ReusePolicy>(
    shape: Shape,
    reader: Reader,
    workers: usize,
    beside: impl Fn() + Sync,
) -> Measured {
    let (warm_up, counted) = (WARM_UP, COUNTED);
    let others = usize::from(reader != Reader::None);
    let outcome = run(
        (workers, others),
        1,
        || Shared::<P>::new(workers),
        |shared, cpu| {
            let number = cpu.number();
            if number >= workers {
                return accompany::<P>(&shared.domain, reader, cpu);
            }
            match shape {
                Shape::Pair => cpu.work(warm_up, counted, || {
                    beside();
                    shared.give(shared.take());
                }),
                Shape::Batch => cpu.work(warm_up / 64, counted / 64, || {
                    let objects: [Handle; 64] = std::array::from_fn(|_| shared.take());
                    objects.into_iter().for_each(|object| shared.give(object));
                }),
                Shape::OtherCpu if number % 2 == 0 => {
                    cpu.work(warm_up, counted, || shared.pass_on(number, cpu));
                }
                Shape::OtherCpu => {
                    cpu.work(warm_up, counted, || shared.free_passed(number - 1, cpu))
                }
            }
        },
    );
    // An object that is passed on is one operation of two CPUs.
    let each = if shape == Shape::OtherCpu { counted / 2 } else { counted };
    Measured::of(outcome, workers, each)
}
