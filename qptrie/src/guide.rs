//! The structure of the trie, and recipes.
//!
//! [How a lookup reads]: crate#consistency
//! [Consistency of the trie]: crate#consistency
//! [Tests under loom]: memalloc#more
//! [`Immediate`]: memalloc::Immediate
//! [`longest_prefix`]: crate::TrieRef::longest_prefix
//! [`InsertErrorKind::TooLarge`]: crate::InsertErrorKind::TooLarge
//!
#![doc = include_str!("../docs/guide.md")]
