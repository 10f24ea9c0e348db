//! Operations that return copies of values of plain bits, under every policy of leaves.

mod compute;
pub(super) mod iter;
mod order;
mod point;
