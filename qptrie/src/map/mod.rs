//! The public type.

// The order in which documentation has the methods of `TrieRef`: rustdoc takes that of the modules.
mod view;

mod compute;
mod ordered;

mod pop;
mod visit;

mod sweep;

mod copied;

mod compute_copied;
mod copied_order;

mod memory;

mod builder;
mod collection;
mod error;
mod guard;
mod iter;
mod iter_copied;
mod leaf_policy;
mod range;
#[cfg(feature = "serde")]
mod serial;
mod trace;
mod trace_iter;
mod trie;

pub use builder::{Builder, Hints};
pub use compute::{Computed, Operation};
pub use error::{InsertError, InsertErrorKind};
pub use guard::{TrieGuard, TrieTraceGuard};
pub use iter::Iter;
pub use iter_copied::IterCopied;
pub use leaf_policy::LeafPolicy;
pub use memory::MemoryUsage;
pub use range::KeyRange;
pub use trace::TraceRef;
pub use trace_iter::TraceIter;
pub use trie::{QpTrie, TrieStats};
pub use view::{TrieRef, Update};
