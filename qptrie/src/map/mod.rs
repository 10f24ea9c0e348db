//! The public type.

mod builder;
mod error;
mod iter;
mod ordered;
mod trie;
mod view;

pub use builder::Builder;
pub use error::{InsertError, InsertErrorKind};
pub use iter::Iter;
pub use trie::{MemoryUsage, QpTrie, TrieStats};
pub use view::{TrieRef, Update};
