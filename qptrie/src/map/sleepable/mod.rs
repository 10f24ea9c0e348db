//! Operations inside sections that may sleep.

pub(super) mod iter;
pub(super) mod view;
mod visit;
