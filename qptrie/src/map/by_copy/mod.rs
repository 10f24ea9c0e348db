//! Operations that return copies of values of plain bits, under every policy of leaves.

// The order of the modules is that of the methods of `TrieRef` in the documentation.
mod point;

mod compute;

mod order;

mod pop;

mod visit;

pub(super) mod iter;
