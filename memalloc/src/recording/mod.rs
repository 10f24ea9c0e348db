//! Records a sample of a program's allocations, frees and read sections in a file, from which
//! `bench-suite advise` derives the shape of the workload. Behind the feature `recording`.
//!
//! Without the feature none of this is compiled: the hooks are empty. With it, a hook is a load and
//! a branch while no recording runs.
//!
//! A hook is async-signal-safe: it allocates nothing and takes no lock. If there is no room for an
//! event, it counts the event as dropped. A thread of the recording writes the events to the file;
//! it blocks no other thread.
//!
//! The child of a fork has no such thread: the events of a running recording are dropped there.
//!
//! This layer knows addresses, sizes and times of events. It knows nothing of allocators, policies
//! or grace periods, whose code calls its hooks. (MEM-RE1, in `hooks`.)
//!
//! The format of the file is described in `docs/recording.md` in the repository.
//!
//! ```
//! use memalloc::MemAlloc;
//! use memalloc::recording::Recording;
//! use std::alloc::Layout;
//!
//! let path = std::env::temp_dir().join(format!("memalloc-{}.rec", std::process::id()));
//! let recording = Recording::start(&path)?;
//! let alloc: MemAlloc = MemAlloc::new()?;
//! let layout = Layout::new::<[u64; 8]>();
//! for _ in 0..10_000 {
//!     let object = alloc.alloc(layout)?.cast();
//!     let _section = alloc.domain().pin();
//!     // SAFETY: allocated with this layout, freed once, and never used.
//!     unsafe { alloc.free(object, layout) };
//! }
//! let summary = recording.finish()?;
//! assert!(summary.events > 0 && summary.dropped == 0);
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(feature = "recording", any(not(loom), test)))]
#[cfg_attr(loom, allow(dead_code))]
mod event;
#[cfg(all(feature = "recording", not(loom)))]
mod hooks;
#[cfg(all(feature = "recording", any(not(loom), test)))]
#[cfg_attr(loom, allow(dead_code))]
mod live_table;
#[cfg(all(feature = "recording", not(loom)))]
mod recorder;
#[cfg(all(feature = "recording", any(not(loom), test)))]
#[cfg_attr(loom, allow(dead_code))]
mod ring;

#[cfg(not(all(feature = "recording", not(loom))))]
#[path = "hooks_off.rs"]
mod hooks;

pub(crate) use hooks::{Section, allocated, allocated_nowait, freed};
#[cfg(all(feature = "recording", not(loom)))]
pub use recorder::{Recording, Summary};

/// The way in which an object is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// For immediate reuse.
    Now,
    /// For reuse after a grace period.
    Deferred,
    /// For immediate reuse, because it is unshared: it was never published, or every section in
    /// which a reader may have found it has ended.
    Unshared,
}

/// The flavour of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Rcu,
    Trace,
}
