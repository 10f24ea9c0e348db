//! The operating system and the processor: CPU numbers, `membarrier`, address space.
//!
//! Each has a portable twin for systems that lack it, for loom and for Miri. Knows nothing of
//! objects, classes or grace periods.

pub(crate) mod cpu;
#[cfg(not(loom))]
pub(crate) mod map;
pub(crate) mod membarrier;
pub(crate) mod rseq;
