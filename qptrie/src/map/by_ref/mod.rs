//! Operations that return references, under policies of leaves that protect identity.

// The order of the modules is that of the methods of `TrieRef` in the documentation.
pub(super) mod point;

pub(super) mod compute;

mod order;

mod pop;

mod visit;

pub(super) mod iter;

pub(super) mod hinted;
