//! The operating system and the processor: CPU numbers, `membarrier`, address space, forks, words
//! that wake threads, prefetching.
//!
//! Each part has a portable version for systems that lack it, for loom and for Miri. The layer
//! knows nothing of objects, classes or grace periods.
//!
//! - MEM-S1: a raw system call is made only with plain numbers, names that end in NUL, buffers of
//!   the caller with their length, and ranges that this crate mapped itself.

pub(crate) mod bell;
pub(crate) mod count_word;
pub(crate) mod cpu;
pub(crate) mod cpu_mode_reason;
pub(crate) mod fork;
pub(crate) mod heap;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub(crate) mod map;
pub(crate) mod membarrier;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub(crate) mod places;
pub(crate) mod prefetch;
pub(crate) mod rseq;
pub(crate) mod thread;
