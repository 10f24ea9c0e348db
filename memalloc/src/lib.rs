//! # Per-CPU object caches with a choice of reuse policy
//!
//! A freed object is reused *at once*, which is fast and small but breaks readers that walk a
//! structure without locks; or only when every such reader has left. This crate does both, so that
//! you can choose, as Linux's BPF allocator does in the kernel.
//!
//! ## Example
//!
//! [`RcuCell`] is one value that many threads read and few replace, without `unsafe`:
//!
//! ```
//! use memalloc::RcuCell;
//!
//! let config = RcuCell::new("one".to_owned())?;
//! let guard = config.domain().pin();
//! let seen = config.load(&guard); // No lock, and no counter that readers share.
//! config.store("two".to_owned())?;
//! assert_eq!(seen, "one", "it stays until the guard is dropped");
//! assert_eq!(config.load(&guard), "two");
//! # drop(guard);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Cache`] holds the nodes of a structure of your own. The same with a pointer:
//!
//! ```
//! use memalloc::{AfterRcuGp, Cache};
//! use std::ptr::NonNull;
//! use std::sync::atomic::{AtomicPtr, Ordering};
//!
//! let cache = Cache::<String, AfterRcuGp>::new()?;
//! let first = cache.alloc("one".to_owned())?.into_raw();
//! let current = AtomicPtr::new(first.as_ptr());
//!
//! let guard = cache.domain().pin();
//! let found = NonNull::new(current.load(Ordering::Acquire)).expect("published above");
//! // SAFETY: found inside the section, so it is freed after the section began.
//! let seen = unsafe { cache.read(found, &guard) };
//!
//! let second = cache.alloc("two".to_owned())?.into_raw();
//! let old = current.swap(second.as_ptr(), Ordering::AcqRel);
//! // SAFETY: `old` came from this cache, and no reader can find it any more.
//! unsafe { cache.free_raw(NonNull::new(old).expect("published above")) };
//! assert_eq!(seen, "one", "still there: the section has not ended");
//! drop(guard);
//! # // SAFETY: unlinked here, and freed once.
//! # unsafe { cache.free_raw(second) };
//! # cache.destroy()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Under [`Immediate`] an object is initialised and read through atomics, and the reader validates:
//!
//! ```
//! use memalloc::{Cache, Immediate, TypeStable};
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! #[derive(Default)]
//! struct Counted {
//!     life: AtomicU64,
//!     value: AtomicU64,
//! }
//! // SAFETY: atomics only, of which every value is valid, and nothing to drop.
//! unsafe impl TypeStable for Counted {}
//!
//! let cache = Cache::<Counted, Immediate>::type_stable()?;
//! let slot = cache.alloc_slot()?;
//! let guard = cache.domain().pin();
//! // SAFETY: `slot` is this cache's and was not freed before the section began.
//! let object = unsafe { cache.slot(slot, &guard) };
//! let life = object.life.load(Ordering::Acquire);
//!
//! // SAFETY: allocated above, freed once. Another takes its place at once.
//! unsafe { cache.free_slot(slot) };
//! assert_eq!(cache.alloc_slot()?, slot);
//! object.life.fetch_add(1, Ordering::Release);
//!
//! let value = object.value.load(Ordering::Acquire);
//! assert_ne!(object.life.load(Ordering::Relaxed), life, "so {value} must not be used");
//! # drop(guard);
//! # // SAFETY: as above.
//! # unsafe { cache.free_slot(slot) };
//! # cache.destroy()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Should I use this?
//!
//! Yes, if you write a lock-free structure and have to decide how its nodes are reclaimed; if you
//! allocate where `malloc` is forbidden, as in a signal handler; if you need objects of at most
//! 4096 bytes from caches that no other part of the program shares; or if you study what deferring
//! costs.
//!
//! No, if you want a global allocator (use mimalloc or jemalloc), if your objects are larger, if no
//! thread reads what others free, or if a plain `Arc` is fast enough. The crate is built and
//! measured on Linux on x86_64. Other systems use portable versions, which have not been measured.
//!
//! ## Policies
//!
//! | policy | kernel | a freed object is allocated again | a section of [`pin`] keeps | a section of [`pin_trace`] keeps |
//! |---|---|---|---|---|
//! | [`Immediate`] | `bpf_mem_free` | at once | memory, type | memory, type |
//! | [`AfterRcuGp`] | `bpf_mem_free_rcu` | after an RCU grace period | memory, type, identity | memory, type |
//! | [`FreeAfterRcuGp`] | `BPF_MA_FREE_AFTER_RCU_GP` | after an RCU grace period, from its slab | memory, type, identity | nothing |
//! | [`AfterTasksTraceGp`] | `call_rcu_tasks_trace` | after a grace period of either flavour | memory, type, identity | memory, type, identity |
//!
//! *Memory*: the address holds what objects of this allocator left in it. (It stays mapped for the
//! life of the allocator, under every policy.) *Type*: it holds an object of the same class, of the
//! same size and alignment. *Identity*: it holds the very object that was found. A reader without
//! identity has to validate what it reads.
//!
//! The two kinds of sections are the two flavours of [`rcu`]. A section of [`pin`] stays on its
//! thread and must be short; a section of [`pin_trace`] may sleep and move to another thread. The
//! choice of a policy is the first question of the [guide].
//!
//! [`pin`]: rcu::Domain::pin
//! [`pin_trace`]: rcu::Domain::pin_trace
//!
//! ## Consistency
//!
//! Guarantees:
//!
//! - Everything that was done to an object before it was freed happens before everything that is
//!   done to it after it was allocated again.
//! - A deferred object is allocated again only after every read section that was open when it was
//!   freed, of the flavours that its policy waits for, has ended; the end of those sections happens
//!   before the allocation. If no thread is in a section, the object may be reused at once.
//! - Every object is in one place: with a user, in a cache, pending, or in its slab. [`Stats`]
//!   counts all four, exactly if no thread allocates or frees.
//! - Dropping an allocator or a cache never waits for readers: the domain frees later what is
//!   pending.
//! - A free never fails and never calls the global allocator. If the allocator has no destructor, a
//!   free waits for nothing but [`max_pending`](Builder::max_pending).
//! - A free or an allocation moves at most 8 batches along each part of its way, however much was
//!   held up. Beyond [`max_pending`](Builder::max_pending), a free also moves twice what it has
//!   added, and what its finalizers free, so that pending memory falls. A reader of one flavour
//!   slows down no free that waits for the other.
//! - A section, a free and a grace period cost what the current threads and guards cost, not those
//!   that have ended.
//! - A destructor, finalizer or callback that panics loses no other object and no count: the others
//!   run, then the panic resumes.
//! - With nothing live, less than 8 MiB of slabs stay after frees in any order, and less than
//!   16 MiB after all classes have come and gone in turn, without any further call.
//! - A program that calls nothing but `alloc_nowait` and deferred frees does not starve.
//!
//! The [guide] has a sentence for [each odd case](guide#odd-cases).
//!
//! Not guaranteed:
//!
//! - Under [`Immediate`] a reader may see, under one address, stores of several lives in any
//!   mixture that its own ordering allows. `qptrie` shows how to validate correctly.
//! - `max_pending` is a soft limit. Besides it, each CPU may hold an unfinished batch of each
//!   class. A thread inside its own read section waits only once the section has ended, so frees
//!   inside one section may exceed the limit. So may the objects that finalizers free in one call.
//!   Behind a stalled reader, a sixteenth of the limit, or one batch, is added for each
//!   [`stall_after`](rcu::Builder::stall_after).
//! - The caches of a CPU hold more than the kernel's: [`Watermarks::reserve`] objects above the
//!   high watermark. With the kernel's classes, a CPU whose caches are all full has 873 KiB in
//!   them, or 170 KiB if the reserve is 0.
//! - Slabs count memory in pages of 4096 bytes that they have touched. If the system provides huge
//!   pages unasked, it may hold more.
//!
//! ## Forks
//!
//! The child of a process with threads has only the thread that forked. That thread may go on using
//! its allocators and domains: allocate, free, read, wait, destroy. The parent waits for one or two
//! locks. In the child
//!
//! - objects that the other threads held, or were moving, are not reused: each of those threads
//!   loses at most the cache and the batches that it was using, and [`LeakReport`] counts their
//!   objects as live;
//! - RCU sections of those threads are over, callbacks that they were running are not waited for,
//!   and the thread of a [`Worker`] is gone;
//! - sections of those threads that may sleep ([`rcu::TraceGuard`]) last until their guard is
//!   dropped, because the remaining thread may hold it. If it does not, tasks-trace grace periods
//!   never end in the child, and allocators that wait for one are never freed: fork while no thread
//!   is in such a section, or let the child only `exec`.
//!
//! The child of a process with threads must not start threads with `std::thread`: a vanished thread
//! may have held a lock of the standard library at the moment of the fork.
//!
//! The fork handlers are registered when the program, or the library that contains this crate, is
//! loaded. The program's own handlers therefore run before them, and may take locks under which the
//! program allocates. The children of `vfork`, of `clone` with `CLONE_VM` and of `posix_spawn` run
//! no fork handlers and share the parent's memory and its areas for restartable sequences: until
//! they call `exec` or `_exit` they must not use an allocator or a domain. (`posix_spawn` and
//! `std::process::Command` without `pre_exec` run no code of the program there.)
//!
//! Do not fork in a constructor of objects. Do not fork in a signal handler by a call that runs
//! `pthread_atfork` handlers.
//!
//! ## Features
//!
//! - `allocator-api2` (off by default): [`MemAlloc`] implements `Allocator` of the crate
//!   `allocator-api2`, in the version that hashbrown and bumpalo use, so that containers can use
//!   it: up to 4096 bytes per block, and beyond with `MemAlloc::with_fallback`.
//! - `recording` (off by default): samples the program's allocations, frees and reads into a file,
//!   from which `bench-suite advise` derives its workload. Without the feature, none of this is
//!   compiled. With it, while no recording runs, an allocation, a free and a section each cost one
//!   more load and branch.
//!
//! ## More
//!
//! The [guide] leads from the choice of a policy through the whole interface to tests under loom.
//! In the repository, `docs/object-life.md` follows one allocation and one free through the code,
//! and `docs/lookup.md` the lookup of a structure of several levels under [`Immediate`]. Complete
//! examples with models are `memalloc/examples/structures` and `bench-suite/src/hash_table`.

#[cfg(all(shuttle, not(counted)))]
compile_error!("shuttle drives the machine of the counting build: `cargo shuttle` sets both flags");

#[cfg(all(feature = "broken", not(debug_assertions)))]
compile_error!(
    "the feature `broken` leaves out what keeps memory safe: for builds with debug assertions only"
);

mod alloc;
pub mod backing;
mod batch;
#[cfg(all(test, loom))]
#[path = "../tests/loom/breaks.rs"]
mod breaks;
#[cfg(feature = "broken")]
#[doc(hidden)]
pub mod broken;
#[cfg(not(feature = "broken"))]
#[allow(dead_code, unreachable_pub, reason = "some steps are left out in qptrie")]
mod broken;
mod class;
mod cpu;
#[cfg(all(test, loom))]
#[path = "../tests/loom/explore.rs"]
mod explore;
mod first_panic;
#[cfg(any(doc, doctest))]
pub mod guide;
mod parse_name;
mod policy;
pub mod rcu;
#[cfg(all(feature = "recording", not(loom)))]
pub mod recording;
#[cfg(not(all(feature = "recording", not(loom))))]
mod recording;
mod slab;
mod stats;
pub mod sync;
mod sys;

#[cfg(feature = "allocator-api2")]
pub use alloc::WithFallback;
pub use alloc::{
    AllocError, AllocErrorKind, BuildError, Builder, Cache, ExchangeError, FromBuilder, MemAlloc,
    NewCellError, OwnedRef, RcuCell, Reclaimed, SlabBox, SlotRef, TypeStable, UninitBox,
};
#[cfg(not(loom))]
pub use alloc::{Worker, WorkerBuilder};
pub use class::{
    Class, ClassError, ClassTable, KERNEL_SIZES, MAX_CLASSES, MAX_SIZE, UNIT, Watermarks,
};
pub use parse_name::ParseNameError;
pub use policy::{
    AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, PolicyKind, ProtectsIdentity,
    ProtectsSleepers, ReusePolicy,
};
pub use slab::Handle;
pub use stats::{Amount, ClassStats, LeakReport, Stats};
pub use sys::cpu::CpuMode;
#[cfg(loom)]
pub use sys::cpu::run_on;
pub use sys::cpu_mode_reason::CpuModeReason;
#[doc(hidden)]
pub use sys::thread::{YIELDS, let_others_run};

/// The package's README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct PackageReadme;
