//! The memory of batches: a table that grows without a lock and never shrinks.

use super::list::BatchList;
use super::stack::Stack;
use crate::backing::Backing;
use crate::class::BATCH_CAPACITY;
#[cfg(not(loom))]
use crate::slab::Beside;
use crate::sync::{AtomicU32, UnsafeCell};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Bytes of a range per batch. A full batch of the smallest objects holds 4000 bytes; the rest
/// allows for batches that are not full.
const BYTES_PER_BATCH: usize = 3072;
const LEAST_BATCHES: usize = 4096;
/// Enough for a range of 64 GiB.
const MOST_BATCHES: usize = (64 << 30) / BYTES_PER_BATCH;

/// A batch that the caller holds. Give it back to the pool, or push it to a list: if it is dropped,
/// its place in the table is lost.
#[must_use = "a batch that is dropped takes its objects with it"]
pub(crate) struct Batch {
    number: u32,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({})", self.number)
    }
}

impl Batch {
    /// Returns the link that a list head or another batch stores for this batch. 0 means none.
    pub(super) fn into_link(self) -> u32 {
        self.number + 1
    }

    /// Returns the batch that a link stands for.
    ///
    /// # Safety
    ///
    /// The caller took `link` off a list, and so no other thread has the batch (MEM-B1).
    pub(super) unsafe fn from_link(link: u32) -> Option<Self> {
        link.checked_sub(1).map(|number| Self { number })
    }
}

/// The contents of a batch. All zero, it is an empty one.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) objects: Stack<BATCH_CAPACITY>,
}

/// A batch in the table. It has whole cache lines and shares none, since a batch moves from CPU to
/// CPU.
#[repr(C, align(64))]
pub(super) struct Node {
    /// The link to the next batch of the list that this one is in.
    pub(super) next: AtomicU32,
    body: UnsafeCell<Body>,
}

const _: () = assert!(cfg!(loom) || size_of::<Node>() == 1024);

/// All batches of an allocator.
pub(crate) struct Pool {
    table: imp::NodeTable,
    /// Unused batches.
    free: CachePadded<BatchList>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

// SAFETY: bodies are reached only through a `Batch`, which one thread has at a time (MEM-B1).
unsafe impl Send for Pool {}
// SAFETY: as above; everything else is atomic.
unsafe impl Sync for Pool {}

impl Pool {
    /// Creates the batches for the objects of a range of `bytes` bytes. Nothing is reserved until
    /// the objects' range grows and this one [with](Self::beside) it.
    pub(crate) fn for_range(backing: &Arc<dyn Backing>, bytes: usize) -> io::Result<Self> {
        let nodes = (bytes / BYTES_PER_BATCH).clamp(LEAST_BATCHES, MOST_BATCHES);
        let free = CachePadded::new(BatchList::new());
        Ok(Self { table: imp::NodeTable::new(backing, nodes as u32)?, free })
    }

    /// Returns the range of the batches, which grows with that of the objects. Its first chunk is
    /// committed with the first slab: with some batches to use over and over, a flush completes
    /// even if the system refuses memory later.
    #[cfg(not(loom))]
    pub(crate) fn beside(&self) -> Beside {
        Beside {
            range: self.table.range(),
            committed: imp::NodeTable::CHUNK_BYTES,
            least: LEAST_BATCHES * size_of::<Node>(),
            slab_bytes: BYTES_PER_BATCH / size_of::<Node>(),
        }
    }

    /// As `for_range`, with addresses for all batches.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn reserved(bytes: usize) -> Self {
        let pool = Self::for_range(&crate::backing::usual(), bytes).expect("a range");
        let range = pool.table.range();
        // SAFETY: no other thread has it yet.
        unsafe { range.grow(range.bytes()) }.expect("addresses");
        range.commit(0, imp::NodeTable::CHUNK_BYTES).expect("memory");
        pool
    }

    /// Returns the bytes of the batches that have ever been used, in whole pages.
    pub(crate) fn table_bytes(&self) -> u64 {
        (self.table.used() as usize * size_of::<Node>()).next_multiple_of(4096) as u64
    }

    pub(super) fn node(&self, link: u32) -> &Node {
        #[cfg(test)]
        visits::count();
        self.table.node(link - 1)
    }

    /// Returns an empty batch, or `None` if the system has no memory for the table. Takes no lock,
    /// and asks the system for memory only if `may_map` is set.
    pub(crate) fn take(&self, may_map: bool) -> Option<Batch> {
        self.free.pop(self).or_else(|| self.table.extend(may_map).map(|number| Batch { number }))
    }

    /// Takes a batch with one object, of this number.
    #[cfg(test)]
    pub(crate) fn numbered(&self, number: u32) -> Batch {
        let mut batch = self.take(true).expect("memory");
        let object = crate::slab::Handle::new(number).expect("not 0");
        self.with(&mut batch, |body| body.objects.push(object));
        batch
    }

    /// Gives a batch back. Objects that are still in it are lost.
    pub(crate) fn give(&self, mut batch: Batch) {
        self.with(&mut batch, |body| body.objects.truncate(0));
        self.free.push(self, batch);
    }

    /// Calls `f` with the body of a batch.
    pub(crate) fn with<R>(&self, batch: &mut Batch, f: impl FnOnce(&mut Body) -> R) -> R {
        #[cfg(test)]
        visits::count();
        // SAFETY: MEM-B1: `&mut Batch` is the only way to the body.
        self.table.node(batch.number).body.with_mut(|body| f(unsafe { &mut *body }))
    }
}

/// Counts how often the calling thread has looked at a batch, to compare the work of calls.
#[cfg(test)]
pub(crate) mod visits {
    use std::cell::Cell;

    std::thread_local! {
        static VISITS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        VISITS.set(VISITS.get() + 1);
    }

    /// Returns the number of visits so far.
    #[cfg(not(loom))]
    pub(crate) fn so_far() -> u64 {
        VISITS.get()
    }
}

#[cfg(not(loom))]
mod imp {
    use super::{Backing, Node};
    use crate::backing::Region;
    use crate::sync::{AtomicU32, Ordering};
    use std::io;
    use std::sync::Arc;

    const CHUNK_NODES: u32 = 256;

    pub(super) struct NodeTable {
        nodes: Arc<Region>,
        most: u32,
        used: AtomicU32,
        committed: AtomicU32,
    }

    impl NodeTable {
        pub(super) const CHUNK_BYTES: usize = CHUNK_NODES as usize * size_of::<Node>();

        pub(super) fn new(backing: &Arc<dyn Backing>, most: u32) -> io::Result<Self> {
            let most = most.next_multiple_of(CHUNK_NODES);
            let bytes = most as usize * size_of::<Node>();
            Ok(Self {
                most,
                nodes: Arc::new(Region::reserve_growing(backing, bytes, 4096)?),
                used: AtomicU32::new(0),
                // MEM-B3.
                committed: AtomicU32::new(CHUNK_NODES),
            })
        }

        pub(super) fn range(&self) -> Arc<Region> {
            Arc::clone(&self.nodes)
        }

        #[inline(always)]
        pub(super) fn node(&self, number: u32) -> &Node {
            // SAFETY: MEM-B2 and MEM-B3: `extend` committed the node before it returned the number,
            // and a node of zeros is an empty one.
            unsafe { self.nodes.base().cast::<Node>().add(number as usize).as_ref() }
        }

        /// Returns how many nodes have ever been used.
        pub(super) fn used(&self) -> u32 {
            self.used.load(Ordering::Relaxed)
        }

        /// Returns the number of a node that was never used.
        pub(super) fn extend(&self, may_map: bool) -> Option<u32> {
            let mut used = self.used.load(Ordering::Relaxed);
            loop {
                // ORDERING: Acquire pairs with the `fetch_max` below: the memory is there before
                // its number is returned. Falls to nothing: the system call orders the two.
                let committed = self.committed.load(Ordering::Acquire);
                if used >= committed && !(may_map && used < self.most && self.commit(used).is_ok())
                {
                    return None;
                }
                match self.used.compare_exchange_weak(
                    used,
                    used + 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Some(used),
                    Err(seen) => used = seen,
                }
            }
        }

        /// Commits the chunk of node `number`. Idempotent, so it needs no lock.
        fn commit(&self, number: u32) -> io::Result<()> {
            let first = number / CHUNK_NODES * CHUNK_NODES;
            self.nodes.commit(first as usize * size_of::<Node>(), Self::CHUNK_BYTES)?;
            // ORDERING: Release pairs with the load in `extend`. Falls to nothing: the system call
            // orders the two.
            self.committed.fetch_max(first + CHUNK_NODES, Ordering::Release);
            Ok(())
        }
    }
}

#[cfg(loom)]
mod imp {
    use super::{Backing, Body, Node, Stack};
    use crate::sync::{AtomicU32, UnsafeCell};
    use std::io;
    use std::sync::atomic::{AtomicU32 as Plain, Ordering};
    use std::sync::{Arc, OnceLock};

    const MOST_NODES: usize = 32;

    /// Nodes are built when they are first used.
    pub(super) struct NodeTable {
        nodes: Box<[OnceLock<Node>]>,
        used: Plain,
    }

    impl NodeTable {
        pub(super) fn new(_backing: &Arc<dyn Backing>, _most: u32) -> io::Result<Self> {
            let nodes = (0..MOST_NODES).map(|_| OnceLock::new()).collect();
            Ok(Self { nodes, used: Plain::new(0) })
        }

        pub(super) fn node(&self, number: u32) -> &Node {
            self.nodes[number as usize].get().expect("given out before")
        }

        pub(super) fn used(&self) -> u32 {
            self.used.load(Ordering::Relaxed)
        }

        pub(super) fn extend(&self, _may_map: bool) -> Option<u32> {
            let number = self.used.fetch_add(1, Ordering::Relaxed);
            let node = self.nodes.get(number as usize)?;
            node.get_or_init(|| Node {
                next: AtomicU32::new(0),
                body: UnsafeCell::new(Body { objects: Stack::new() }),
            });
            Some(number)
        }
    }
}
