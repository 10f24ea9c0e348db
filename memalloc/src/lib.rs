//! # Per-CPU object caches with a choice of reuse policy
//!
//! Linux's BPF allocator keeps a cache of free objects for each CPU and size class, and hands a
//! freed object out again *at once*. That is fast and small, and breaks readers that walk a
//! structure without locks: under a pointer loaded a moment ago there may be another object.
//! The alternative is to defer reuse until every such reader has left. This crate does both, in
//! userspace, so that you can choose.
//!
//! ## Should I use this?
//!
//! Yes, if you write a lock-free structure and have to decide how its nodes are reclaimed; if you
//! allocate where `malloc` is forbidden, as in a signal handler; if you need objects of at most
//! 4096 bytes from caches that no other part of the program shares; or if you study what deferring
//! costs.
//!
//! No, if you want a global allocator (take mimalloc or jemalloc), if your objects are larger, if
//! nobody reads what others free, or if a plain `Arc` is fast enough. It is built and measured on
//! Linux on x86_64; elsewhere portable twins stand in, and nobody has measured them.
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
//! life of the allocator, under every policy.) *Type*: it holds an object of the same class, as
//! large and as aligned. *Identity*: it holds the very object that was found. A reader without
//! identity has to validate what it reads.
//!
//! The two kinds of sections are the two flavours of [`rcu`]: [`pin`] begins one that stays on its
//! thread and must not last, [`pin_trace`] one that may sleep and move. Which policy to take is the
//! first question of the guide (`docs/guide.md` in the repository).
//!
//! [`pin`]: rcu::Domain::pin
//! [`pin_trace`]: rcu::Domain::pin_trace
//!
//! ## Example
//!
//! ```
//! use memalloc::{AfterRcuGp, Cache};
//! use std::ptr::NonNull;
//! use std::sync::atomic::{AtomicPtr, Ordering};
//!
//! // One configuration that is read often and replaced now and then.
//! let cache = Cache::<String, AfterRcuGp>::new()?;
//! let first = cache.alloc("one".to_owned())?.into_raw();
//! let current = AtomicPtr::new(first.as_ptr());
//!
//! let guard = cache.domain().pin();
//! // SAFETY: loaded inside the section, and freed under a policy that protects identity.
//! let seen = unsafe { &*current.load(Ordering::Acquire) };
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
//! [`RcuCell`] does the same for one value without `unsafe`.
//!
//! Under [`Immediate`] the same object is initialised and read through atomics, and the reader
//! validates:
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
//! assert_ne!(object.life.load(Ordering::Relaxed), life, "so {value} is not to be believed");
//! # drop(guard);
//! # // SAFETY: as above.
//! # unsafe { cache.free_slot(slot) };
//! # cache.destroy()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Consistency
//!
//! What holds:
//!
//! - Everything that was done to an object before it was freed happens before everything that
//!   is done to it after it was allocated again.
//! - A deferred object is allocated again only after every read section that was open when it
//!   was freed, of the flavours that its policy waits for, has ended; that end happens before.
//!   Where nobody is in a section, that may be at once.
//! - Every object is in one place: with a user, in a cache, waiting, or in its slab.
//!   [`Stats`] counts all four, exactly when nobody allocates or frees.
//! - A drop of an allocator or a cache never waits for readers: the domain ends what it leaves.
//! - A free never fails and never asks the global allocator. Where the allocator has no
//!   destructor, it waits for nothing but [`max_pending`](Builder::max_pending).
//!
//! What does not:
//!
//! - Under [`Immediate`] a reader may see, under one address, stores of several lives in any
//!   mixture that its own ordering allows. `qptrie` shows what it takes to be right.
//! - `max_pending` is a soft limit. Beside it each CPU may hold an unfinished batch of each class. A
//!   thread inside a read section of its own waits when the section has ended, so what one section
//!   frees goes beyond it. Behind a reader that stalls, a sixteenth of it, or one batch, is added for
//!   each [`stall_after`](rcu::Builder::stall_after).
//! - The caches of a CPU hold more than the kernel's: [`Watermarks::reserve`] objects above the
//!   high watermark, so that with the kernel's classes a CPU whose caches are all full has 837 KiB
//!   in them, and 170 KiB where the reserve is 0.
//! - Slabs count memory in pages of 4096 bytes that they have touched. Where the system gives huge
//!   pages unasked, it may hold more.
//!
//! ## Forks
//!
//! The child of a process with threads has the thread that forked, and may go on with its
//! allocators and domains: allocate, free, read, wait, destroy. The parent waits for a lock or
//! two. In the child
//!
//! - objects that the other threads held, or were moving, are not reused: each thread loses at most
//!   the cache and the batches that it had in hand, and [`LeakReport`] counts them as live;
//! - RCU sections of those threads are over, callbacks that they were running are not waited for,
//!   and a [`Worker`] is not there;
//! - sections of theirs that may sleep ([`rcu::TraceGuard`]) last until their guard is dropped,
//!   for it may be in the hands of the thread that is left. Where no guard is, tasks-trace grace
//!   periods never end there, and allocators that wait for one are never ended: fork while nobody
//!   is in such a section, or let the child only `exec`.
//!
//! The child of a process with threads must not begin threads by `std::thread`: a thread that is no
//! more may have had a lock of the standard library at the moment of the fork.
//!
//! The handlers that see to this are registered when the program, or the library that this crate is
//! a part of, is loaded: handlers of the program's own run before them, and may take locks under
//! which it allocates. The children of `vfork`, of `clone` with `CLONE_VM` and of `posix_spawn` run
//! no such handlers and share the parent's memory and its areas for restartable sequences: until
//! they call `exec` or `_exit` they must not use an allocator or a domain. (`posix_spawn` and
//! `std::process::Command` without `pre_exec` run no code of the program's there.)
//!
//! Do not fork in a constructor of objects, nor, by a call that runs `pthread_atfork` handlers, in
//! a signal handler.
//!
//! ## Features
//!
//! - `allocator-api2` (off by default): [`MemAlloc`] is an `Allocator` of the crate
//!   `allocator-api2`, in the version that hashbrown and bumpalo use, so that containers can live
//!   on it: up to 4096 bytes a block, and beyond with `MemAlloc::with_fallback`.
//! - `recording` (off by default): samples what the program allocates, frees and reads into a file,
//!   from which `bench-suite advise` derives its workload. Without it nothing of that is compiled;
//!   with it and while no recording runs, an allocation, a free and a section cost a load and a
//!   branch more.
//!
//! ## More
//!
//! In the repository: `docs/guide.md` goes from the choice of a policy through everything here to
//! tests under loom, and `docs/object-life.md` follows one allocation and one free through the
//! code. Layers, each of which imports only from those before it: `sync`, `sys`, `recording`,
//! `backing`, `policy`, `class`, `slab` and `rcu`, `batch`, `cpu`, `alloc`, `stats`.

mod alloc;
pub mod backing;
mod batch;
mod class;
mod cpu;
mod first_panic;
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
    AllocError, AllocErrorKind, BuildError, Builder, Cache, ExchangeError, MemAlloc, NewCellError,
    OwnedRef, RcuCell, Reclaimed, SlabBox, SlotRef, TypeStable, UninitBox,
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

/// The package's README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct PackageReadme;

/// The guide: every block of it compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;
