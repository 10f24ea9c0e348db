//! The public types. Operations are grouped by what they return (`by_ref`, `by_copy`) or by the
//! kind of section (`sleepable`); the same question is in a file of the same name.
//!
//! This layer knows the caller's types: keys, values, closures, policies and guards. It begins read
//! sections, calls lookups, scans and changes of the lower layers inside them, and gives out values
//! as long as their section lasts. It knows nothing of how a branch is validated or locked.
//! `by_ref` and `sleepable` state its invariants (QPT-G, QPT-U).

// The order of the modules is that of the methods of `QpTrie` and `TrieRef` in the documentation.
mod builder;

mod trie;

mod guard;

mod by_ref;

mod by_copy;

mod sleepable;

mod leaf_policy;

mod memory;

mod error;
mod range;
#[cfg(feature = "serde")]
mod serde_impls;
mod settings;
mod std_impls;

pub use builder::Builder;
pub use by_copy::iter::IterCopied;
pub use by_ref::compute::{Computed, Operation};
pub use by_ref::iter::Iter;
pub use by_ref::point::{TrieRef, Update};
pub use error::{InsertError, InsertErrorKind};
pub use guard::{TrieGuard, TrieTraceGuard};
pub use leaf_policy::LeafPolicy;
pub use memory::{MemoryUsage, TrieStats};
pub use range::KeyRange;
pub use settings::Hints;
pub use sleepable::iter::TraceIter;
pub use sleepable::view::TraceRef;
pub use trie::QpTrie;
