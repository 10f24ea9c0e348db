//! Lock-free structures on [`memalloc`], as an outside crate builds them. Each has a model that the
//! loom model checker explores, and one with a step left out, which fails (`tests/loom.rs`).
//!
//! | structure | policy | why readers are right |
//! |---|---|---|
//! | [`Stack`] | `AfterRcuGp` | a node stays what it is until the section of its reader has ended |
//! | [`CountedStack`] | `Immediate` | a count beside the head tells one life of a node from another |
//! | [`Queue`] | `AfterRcuGp` | a node is freed only when neither end of the queue leads to it |
//! | [`Table`] | `AfterRcuGp` | readers walk chains without a lock; a value is replaced in its place |
//!
//! The atomics come from `sync`, which takes loom's in a model.

mod counted_stack;
mod queue;
mod stack;
mod sync;
mod table;

pub use counted_stack::CountedStack;
pub use queue::Queue;
pub use stack::Stack;
pub use table::Table;
