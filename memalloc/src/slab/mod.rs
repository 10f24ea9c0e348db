//! Slabs: objects of one class, carved out of one range of addresses.
//!
//! A slab is 64 KiB of the range, all of it of one class for as long as anybody may read there.
//! This layer hands objects out by the batch and takes them back by the batch; the way from an
//! object to its slab is a shift of its handle. It knows nothing of CPUs or grace periods: its
//! callers return an object only when no reader can hold it any more.
//!
//! - INV-A1: the range stays mapped at one place for the life of the arena; a handle that this
//!   layer gave out lies inside committed memory, aligned as its class says.
//! - INV-A2: an object is either in its slab (its bit is set) or outside; only the holder of
//!   the one outside may touch it as the life of the object allows.
//! - INV-A3: a slab changes class, or goes back to the system, only when all its objects are in
//!   it, and objects come back only after the grace periods that protect memory and type. Where
//!   slabs keep their class they never change it.

mod arena;
mod empty;
mod handle;
mod slabs;

#[cfg(not(loom))]
pub(crate) use arena::Beside;
pub(crate) use arena::{Arena, LEAST_RANGE};
pub use handle::Handle;
pub(crate) use slabs::{Constructor, SlabError, Slabs};
