//! The public type.

mod builder;
mod collection;
mod compute;
mod copied;
mod copied_order;
mod error;
mod iter;
mod memory;
mod ordered;
#[cfg(feature = "serde")]
mod serial;
mod sweep;
mod trace;
mod trie;
mod view;

pub use builder::Builder;
pub use compute::{Computed, Operation};
pub use error::{InsertError, InsertErrorKind};
pub use iter::Iter;
pub use memory::MemoryUsage;
pub use trace::TraceRef;
pub use trie::{QpTrie, TrieStats};
pub use view::{TrieRef, Update};
