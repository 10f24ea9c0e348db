//! What people read. Everything here is made from records, so that records of other runs can be
//! shown the same way, but for what is said of the machine's health.

mod batches;
mod figures;
mod health;
mod htab_mem;
mod kernel;
mod paragraph;
mod progress;
mod rows;
mod tables;
mod verdict;

pub(crate) use batches::slower_in_batches;
pub(crate) use health::{health, takes_longer};
pub(crate) use htab_mem::beside_htab_mem;
pub(crate) use kernel::beside_the_kernel;
pub(crate) use progress::Progress;
pub(crate) use tables::{Against, preamble, tables};
pub(crate) use verdict::verdict;
