//! The paths of the allocator: pairs, batches of 64, and frees on another CPU, under every policy,
//! with no reader, an idle one or a busy one.

use super::machine::{Cpu, run};
use super::measured::Measured;
use memalloc::rcu::Domain;
use memalloc::{Handle, MemAlloc, PolicyKind, ReusePolicy};
use std::alloc::Layout;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

/// The layout of the allocated objects.
const OBJECT: Layout = Layout::new::<[u64; 32]>();

/// The most objects in a ring between two CPUs.
const RING_SIZE: usize = 256;

/// The work of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Allocates an object and frees it.
    Pair,
    /// Allocates 64 objects and frees them.
    Batch,
    /// Allocates an object that another CPU frees.
    OtherCpu,
}

impl Shape {
    /// Every shape, in the order of the document.
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

/// The reader on one more CPU beside the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// No reader.
    None,
    /// Entered and left one section, then does nothing.
    Idle,
    /// Enters and leaves sections without pause.
    Busy,
}

impl Reader {
    /// Every kind of reader, in the order of the document.
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

/// Enters and leaves one section of the flavour that the policy waits for.
fn read<P: ReusePolicy>(domain: &Domain) {
    if P::KIND == PolicyKind::AfterTasksTraceGp {
        drop(domain.pin_trace());
    } else {
        drop(domain.pin());
    }
}

/// The work of the reader's CPU.
fn accompany<P: ReusePolicy>(domain: &Domain, reader: Reader, cpu: &Cpu) {
    read::<P>(domain);
    if reader == Reader::Busy {
        cpu.accompany(|| read::<P>(domain));
    } else {
        cpu.rest();
    }
}

/// Objects of each worker before counting: a multiple of 64, and enough for pending memory to reach
/// its bound.
const WARM_UP: usize = 64 * 64;
/// Objects of each worker while counting: a multiple of 64.
const COUNTED: usize = 4 * 64;

/// The data that all CPUs of the experiment share.
struct Shared<P: ReusePolicy> {
    domain: Domain,
    /// Boxed, so that it begins at the start of a cache line.
    alloc: Box<MemAlloc<P>>,
    /// Element `i` passes objects from CPU `i` to its neighbour. The simulated machine does not see
    /// accesses to the rings.
    rings: Vec<Mutex<VecDeque<Handle>>>,
}

impl<P: ReusePolicy> Shared<P> {
    fn new(workers: usize) -> Self {
        let domain = Domain::new();
        let alloc = MemAlloc::builder().domain(domain.clone()).build().expect("memory").into();
        let rings = (0..workers).map(|_| Mutex::default()).collect();
        Self { domain, alloc, rings }
    }

    fn allocate(&self) -> Handle {
        self.alloc.alloc_handle(OBJECT).expect("memory")
    }

    fn free(&self, object: Handle) {
        // SAFETY: `allocate` returned the object, no reader has seen it, and it is freed once.
        unsafe { self.alloc.free_handle(object, OBJECT) };
    }

    /// Allocates an object and passes it on through a ring.
    fn pass_on(&self, ring: usize, cpu: &Cpu) {
        let object = self.allocate();
        loop {
            let mut ring = self.rings[ring].lock().expect("no panic");
            if ring.len() < RING_SIZE {
                return ring.push_back(object);
            }
            drop(ring);
            cpu.pause();
        }
    }

    /// Frees the next object of a ring.
    fn free_passed(&self, ring: usize, cpu: &Cpu) {
        loop {
            let object = self.rings[ring].lock().expect("no panic").pop_front();
            match object {
                Some(object) => return self.free(object),
                None => cpu.pause(),
            }
        }
    }
}

/// Counts one shape. [`Shape::Pair`] also calls `extra` once for each pair.
pub(crate) fn measure<P: ReusePolicy>(
    shape: Shape,
    reader: Reader,
    workers: usize,
    extra: impl Fn() + Sync,
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
                    extra();
                    shared.free(shared.allocate());
                }),
                Shape::Batch => cpu.work(warm_up / 64, counted / 64, || {
                    let objects: [Handle; 64] = std::array::from_fn(|_| shared.allocate());
                    objects.into_iter().for_each(|object| shared.free(object));
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
    // An object that is passed on is one operation, shared by two CPUs.
    let each = if shape == Shape::OtherCpu { counted / 2 } else { counted };
    Measured::of(outcome, workers, each)
}
