//! The operating system and the processor: CPU numbers, `membarrier`, address space, forks.
//!
//! Each has a portable twin for systems that lack it, for loom and for Miri. Knows nothing of
//! objects, classes or grace periods.
//!
//! - INV-S1: a raw system call is made only with plain numbers, names that end in NUL, room of
//!   the caller's own with its length, and ranges that we mapped ourselves.

pub(crate) mod count_word;
pub(crate) mod cpu;
pub(crate) mod fork;
pub(crate) mod heap;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub(crate) mod map;
pub(crate) mod membarrier;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub(crate) mod places;
pub(crate) mod rseq;
pub(crate) mod thread;
