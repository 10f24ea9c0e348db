//! The allocators: [`MemAlloc`] for every size class, [`Cache`] for objects of one type,
//! [`RcuCell`] for one value.
//!
//! This layer moves objects between the places of the lower layers: the caches of CPUs, the depot,
//! batches that wait for grace periods, and slabs. It alone knows the policy of an allocator, when
//! a grace period is due and what bounds the pending memory. It knows nothing of how a slab is laid
//! out, how a cache is accessed or how readers announce themselves. `depot`, `boxes`, `cell` and
//! `container` state its invariants (MEM-L, MEM-O, MEM-RC, MEM-E).

// The order of these modules is that of the methods of `MemAlloc` and `Cache` in the documentation.
mod builder;

mod mem_alloc;

mod cache;

mod type_stable;

mod answer;
#[cfg(all(test, not(loom)))]
mod bounded_work;
mod boxes;
mod cell;
#[cfg(feature = "allocator-api2")]
mod container;
mod defer;
mod depot;
mod error;
mod filler;
mod finish;
mod hook_frame;
mod owed;
mod raw;
mod raw_alloc;
mod raw_free;
mod reclaim;
mod recount;
mod stage;
mod turn;
mod waiting;
mod wanted;
#[cfg(not(loom))]
mod worker;

pub use boxes::{SlabBox, UninitBox};
pub use builder::{Builder, FromBuilder};
pub use cache::Cache;
pub use cell::{OwnedRef, RcuCell};
#[cfg(feature = "allocator-api2")]
pub use container::WithFallback;
pub use error::{AllocError, AllocErrorKind, BuildError, ExchangeError, NewCellError};
pub use mem_alloc::MemAlloc;
pub use reclaim::Reclaimed;
pub use type_stable::{SlotRef, TypeStable};
#[cfg(not(loom))]
pub use worker::{Worker, WorkerBuilder};
