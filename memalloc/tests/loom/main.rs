//! The allocator and its grace periods under every schedule and every memory order that loom
//! can tell apart: the code that ships, with two CPUs and caches of four objects.
//!
//! Each model is explored to its end within its preemption bound; `explore` says what that is
//! worth and prints one line for each. What loom can't show (load buffering, more than the last
//! seven stores of an atomic, `sys_membarrier` as it is) is left to other instruments.
#![cfg(loom)]

mod batches;
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
