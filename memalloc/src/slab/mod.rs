//! Slabs: objects of one class, carved out of one address range.
//!
//! A slab is 64 KiB of the range, all of one class for as long as a reader may look there. This
//! layer hands out objects in batches and takes them back in batches. The slab of an object is
//! found by a shift of its handle. This layer knows nothing of CPUs or grace periods: its callers
//! return an object only once no reader can hold it any more.
//!
//! - MEM-A1: the range stays mapped at one address for the life of the arena; a handle that this
//!   layer has given out lies inside committed memory, aligned as its class says.
//! - MEM-A2: an object is either in its slab (its bit is set) or outside; only the holder of an
//!   object outside may touch it, as the life of the object allows.
//! - MEM-A3: a slab changes class, or returns to the system, only when all its objects are in it,
//!   and objects return only after the grace periods that protect memory and type. If slabs keep
//!   their class, they never change it.

mod arena;
mod descriptor;
mod empty;
mod handle;
mod lists;
#[cfg(not(loom))]
mod poison;
mod release;
mod slabs;

#[cfg(not(loom))]
pub(crate) use arena::Beside;
pub(crate) use arena::{Arena, LEAST_RANGE};
pub use handle::Handle;
pub(crate) use slabs::{Constructor, SlabError, Slabs};
