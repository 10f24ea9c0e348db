//! Fuzz target: byte strings are read as scripts of operations, whose effects are compared with
//! those on a `BTreeMap`. `cargo test` replays the corpus in `__fuzz__` and adds random scripts;
//! see docs/CONTRIBUTING.md for the coverage-guided form.
#![cfg(not(loom))]

mod by_ref;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../../memalloc/tests/fuzz/script.rs"]
mod script;
mod trie;
