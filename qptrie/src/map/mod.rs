//! The public types. Operations are grouped by what they return (`by_ref`, `by_copy`) or by the kind
//! of section (`sleepable`); the same question is in a file of the same name.

mod builder;
mod by_copy;
mod by_ref;
mod error;
mod memory;
#[cfg(feature = "serde")]
mod serde_impls;
mod sleepable;
mod std_impls;
mod trie;

pub use builder::{Builder, Hints};
pub use by_copy::iter::IterCopied;
pub use by_ref::compute::{Computed, Operation};
pub use by_ref::iter::Iter;
pub use by_ref::point::{TrieRef, Update};
pub use error::{InsertError, InsertErrorKind};
pub use memory::MemoryUsage;
pub use sleepable::iter::TraceIter;
pub use sleepable::view::TraceRef;
pub use trie::{QpTrie, TrieStats};
