//! Batches: arrays of objects with a count, and the lists they wait in.
//!
//! Beyond the CPU, objects move in batches, and every such move is the same: a batch is taken from
//! one list and pushed to another. This layer knows nothing of slabs, CPUs or policies.
//!
//! - MEM-B1: a [`Batch`] is the only way to its body, and is neither copied nor cloned: the thread
//!   that has it has exclusive access to the body. Between push and pop no thread has it.
//! - MEM-B2: the memory of batches stays mapped for the life of the [`Pool`], and `next` is atomic:
//!   a popper that lost a race reads an old `next`, never anything else, and the tag of the list
//!   head makes its exchange fail.
//! - MEM-B3: a batch is requested only by a thread that has, or had, an object to put into it, and
//!   the first chunk of batches is committed before the first object leaves its slab.
//! - MEM-B4: the stamp of a [`StampedList`] is raised before a batch is linked into the list, and
//!   is loaded after the head that the exchange of a popper compares: it covers every batch that
//!   the list had at that head, and if another one has arrived since, the exchange fails.

mod list;
mod pool;
mod queue;
mod stack;
mod stamped;

pub(crate) use list::BatchList;
#[cfg(all(test, not(loom)))]
pub(crate) use pool::visits;
pub(crate) use pool::{Batch, Pool};
pub(crate) use queue::Queue;
pub(crate) use stack::Stack;
pub(crate) use stamped::StampedList;
