//! What people read. Everything here is made from records, so that records of other runs can be
//! shown the same way.

mod advice;
mod figures;
mod kernel;
mod paragraph;
mod progress;
mod rows;
mod tables;

pub(crate) use advice::advice;
pub(crate) use kernel::beside_the_kernel;
pub(crate) use paragraph::paragraph;
pub(crate) use progress::Progress;
pub(crate) use tables::{Against, preamble, tables};
