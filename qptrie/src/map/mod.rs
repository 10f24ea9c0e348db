//! The public type.

mod builder;
mod collection;
mod compute;
mod compute_copied;
mod copied;
mod copied_order;
mod error;
mod guard;
mod iter;
mod iter_copied;
mod leaf_policy;
mod memory;
mod ordered;
mod pop;
mod range;
#[cfg(feature = "serde")]
mod serial;
mod sweep;
mod trace;
mod trace_iter;
mod trie;
mod view;
mod visit;

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
