//! The public type.

mod builder;
mod error;
mod iter;
mod trie;

pub use builder::Builder;
pub use error::{InsertError, InsertErrorKind};
pub use iter::Iter;
pub use trie::{MemoryUsage, QpTrie, TrieRef, TrieStats, Update};
