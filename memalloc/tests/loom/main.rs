//! The allocator and its grace periods under every schedule and every memory order that loom can
//! tell apart: the code that ships, with two CPUs and caches of four objects.
//!
//! Each model is explored to its end within its preemption bound; `explore` checks that it did
//! something and prints one line for each. `breaks` explores until a failure. Loom cannot show load
//! buffering, more than the last seven stores of an atomic, or the real `sys_membarrier`; other
//! tools test those.
#![cfg(loom)]

mod batches;
mod breaks;
mod caches;
mod callbacks;
mod cells;
mod endings;
mod explore;
mod grace_periods;
mod misuse;
mod pair;
mod sleepers;
mod waiting;
