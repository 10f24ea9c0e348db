//! Operations that return references, under policies of leaves that protect identity.

pub(super) mod compute;
pub(super) mod iter;
mod order;
pub(super) mod point;
