//! The structure of the trie, and recipes.
//!
//! [How a lookup reads]: crate#consistency
//! [Consistency of the trie]: crate#consistency
//! [`Immediate`]: memalloc::Immediate
//!
#![doc = include_str!("../docs/guide.md")]
